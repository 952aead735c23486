//! `router-daemon user`: the file of users that SASL PLAIN checks against.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use amqp_router::runtime::users::{DEFAULT_ITERATIONS, Users};
use clap::{Args, Subcommand};

/// Passwords are asked for at a terminal, or else are the first line of standard input; never an
/// argument, which every user of the host could read.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a user, or change the password of one
    Add {
        #[command(flatten)]
        user: User,
        /// How dear a guess at the password is made, and each login
        #[arg(long, default_value_t = DEFAULT_ITERATIONS,
            value_parser = clap::value_parser!(u32).range(4096..=10_000_000))]
        iterations: u32,
    },
    /// Remove a user
    Remove(User),
    /// List the users
    List(UsersFile),
    /// Check a user's password
    Verify(User),
}

#[derive(Debug, Args)]
pub(crate) struct User {
    #[command(flatten)]
    file: UsersFile,
    /// Name of the user
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct UsersFile {
    /// The file of users; routers read `saslConfigName`.users in `saslConfigDir`
    #[arg(long = "file", value_name = "FILE")]
    path: PathBuf,
}

/// # Errors
///
/// The file cannot be read or written, the user does not exist, or the password is not right.
pub(crate) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Add { user, iterations } => add(user, *iterations),
        Command::Remove(user) => remove(user),
        Command::List(file) => {
            load(file)?.names().for_each(|name| println!("{name}"));
            Ok(())
        }
        Command::Verify(user) => verify(user),
    }
}

fn add(user: &User, iterations: u32) -> Result<(), String> {
    let path = &user.file.path;
    let mut users = Users::load_or_new(path).map_err(|error| error.to_string())?;
    let password = read_password(true)?;
    users
        .set(&user.name, &password, iterations)
        .map_err(|error| error.to_string())?;
    users.save(path).map_err(|error| error.to_string())
}

fn remove(user: &User) -> Result<(), String> {
    let mut users = load(&user.file)?;
    match users.remove(&user.name) {
        true => users
            .save(&user.file.path)
            .map_err(|error| error.to_string()),
        false => Err(format!(
            "there is no user '{}' in '{}'",
            user.name,
            user.file.path.display()
        )),
    }
}

fn verify(user: &User) -> Result<(), String> {
    let users = load(&user.file)?;
    match users.verify(&user.name, &read_password(false)?) {
        true => Ok(()),
        false => Err("unknown user or wrong password".into()),
    }
}

fn load(file: &UsersFile) -> Result<Users, String> {
    Users::load(&file.path).map_err(|error| error.to_string())
}

fn read_password(twice: bool) -> Result<String, String> {
    let fault = |error: io::Error| format!("cannot read the password: {error}");
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(fault)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let password = rpassword::prompt_password("Password: ").map_err(fault)?;
    if twice && rpassword::prompt_password("Again: ").map_err(fault)? != password {
        return Err("the two passwords differ".into());
    }
    Ok(password)
}
