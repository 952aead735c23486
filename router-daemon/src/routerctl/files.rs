//! The files that options name. `-` is standard input.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

use crate::failure::{Failure, Outcome};

/// All that a file has.
pub(crate) fn octets(file: &Path) -> Outcome<Vec<u8>> {
    if !is_standard_input(file) {
        return fs::read(file).map_err(|error| unreadable(file, &error));
    }
    if io::stdin().is_terminal() {
        eprintln!("routerctl: reading standard input up to its end (Ctrl-D)");
    }
    let mut input = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut input);
    read.map_err(|error| unreadable(file, &error))?;
    Ok(input)
}

/// All that a file of text has.
pub(crate) fn text(file: &Path) -> Outcome<String> {
    String::from_utf8(octets(file)?).map_err(|_| unusable(file, "it is not UTF-8"))
}

/// The first line of a file that holds a secret. Of standard input it is the next one, so that
/// several can come by it; a terminal does not show it.
pub(crate) fn first_line(file: &Path) -> Outcome<String> {
    if !is_standard_input(file) {
        return Ok(text(file)?.lines().next().unwrap_or_default().to_owned());
    }
    if io::stdin().is_terminal() {
        let typed = rpassword::prompt_password("Password: ");
        return typed.map_err(|error| unreadable(file, &error));
    }
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| unreadable(file, &error))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

pub(crate) fn unusable(file: &Path, why: &str) -> Failure {
    Failure::Usage(format!("cannot use {}: {why}", name(file)))
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", name(file)))
}

fn name(file: &Path) -> String {
    match is_standard_input(file) {
        true => "standard input".into(),
        false => file.display().to_string(),
    }
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new("-")
}
