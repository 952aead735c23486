//! `router-daemon user`: the file of users that SASL PLAIN and SCRAM check against.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use amqp_router::runtime::users::{DEFAULT_ITERATIONS, ScramHash, Users};
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
        /// What the user can log in by besides PLAIN, as SCRAM-SHA-256; may be said more than once
        #[arg(long = "mechanism", value_name = "MECHANISM", default_value = "SCRAM-SHA-256",
            value_delimiter = ',', value_parser = mechanism)]
        mechanisms: Vec<ScramHash>,
    },
    /// Remove a user
    Remove(User),
    /// List the users
    List {
        #[command(flatten)]
        file: UsersFile,
        /// What each can log in by besides PLAIN, too
        #[arg(long)]
        mechanisms: bool,
    },
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
        Command::Add {
            user,
            iterations,
            mechanisms,
        } => add(user, mechanisms, *iterations),
        Command::Remove(user) => remove(user),
        Command::List { file, mechanisms } => list(file, *mechanisms),
        Command::Verify(user) => verify(user),
    }
}

fn add(user: &User, mechanisms: &[ScramHash], iterations: u32) -> Result<(), String> {
    let path = &user.file.path;
    let mut users = Users::load_or_new(path).map_err(|error| error.to_string())?;
    let password = read_password(true)?;
    users
        .set_for(&user.name, &password, mechanisms, iterations)
        .map_err(|error| error.to_string())?;
    users.save(path).map_err(|error| error.to_string())
}

fn list(file: &UsersFile, mechanisms: bool) -> Result<(), String> {
    let users = load(file)?;
    for name in users.names() {
        let can: Vec<_> = users.mechanisms(name).map(ScramHash::mechanism).collect();
        match mechanisms {
            true => println!("{name}\t{}", can.join(" ")),
            false => println!("{name}"),
        }
    }
    Ok(())
}

fn mechanism(name: &str) -> Result<ScramHash, String> {
    ScramHash::of_mechanism(name).ok_or_else(|| {
        let valid = ScramHash::ALL.map(ScramHash::mechanism).join(", ");
        format!("valid: {valid}")
    })
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
