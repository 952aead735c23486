//! Gets the clients of other languages ready, once per change of what they require.
//!
//! A Python environment and a `node_modules` are kept below the build directory, so that
//! `cargo clean` removes them. Test processes take turns by a file lock.

use crate::peer::Peer;
use std::{
    env, fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// What it takes to run a peer.
#[derive(Clone, Debug)]
pub(crate) enum Installed {
    Python { python: PathBuf },
    Node { modules: PathBuf },
    InProcess,
    Missing(String),
}

/// Installs what the peer needs; the first call of a process looks, later ones remember.
pub(crate) fn installed(peer: Peer) -> &'static Installed {
    static PYTHON: OnceLock<Installed> = OnceLock::new();
    static NODE: OnceLock<Installed> = OnceLock::new();
    match peer {
        Peer::Proton => PYTHON.get_or_init(|| python().unwrap_or_else(Installed::Missing)),
        Peer::Rhea => NODE.get_or_init(|| node().unwrap_or_else(Installed::Missing)),
        Peer::Fe2o3 => &Installed::InProcess,
    }
}

/// Puts a page with rhea for browsers into a directory.
///
/// # Panics
///
/// When rhea is not available: ask for that before.
pub fn browser_client(site: &Path) {
    let Installed::Node { modules } = installed(Peer::Rhea) else {
        panic!("rhea is not available");
    };
    let page = clients().join("browser");
    let files = [
        page.join("index.html"),
        page.join("page.js"),
        modules.join("rhea/dist/rhea.min.js"),
    ];
    for file in files {
        let name = file.file_name().expect("a file's name");
        fs::copy(&file, site.join(name)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// The directory that cargo builds into, found from the running test.
pub(crate) fn target_directory() -> PathBuf {
    let marked = |directory: &&Path| directory.join("CACHEDIR.TAG").exists();
    let test = env::current_exe().unwrap_or_default();
    let above = test.ancestors().skip(1).find(marked).map(Path::to_owned);
    above.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"))
}

fn python() -> Result<Installed, String> {
    let requirements = clients().join("python/requirements.txt");
    let environment = install_directory()?.join("python");
    let python = environment.join("bin/python");
    let wanted = read(&requirements)?;
    once(&environment, &wanted, || {
        run(Command::new("python3")
            .arg("-m")
            .arg("venv")
            .arg("--clear")
            .arg(&environment))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements))
    })?;
    Ok(Installed::Python { python })
}

fn node() -> Result<Installed, String> {
    let directory = install_directory()?.join("node");
    run(Command::new("node").arg("--version"))?;
    let lock = clients().join("node/package-lock.json");
    let wanted = read(&lock)?;
    once(&directory, &wanted, || {
        fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(clients().join("node").join(name), directory.join(name))
                .map_err(|e| e.to_string())?;
        }
        run(Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&directory))
    })?;
    Ok(Installed::Node {
        modules: directory.join("node_modules"),
    })
}

/// Runs `install` unless it has succeeded before for the same `wanted`.
fn once(
    directory: &Path,
    wanted: &str,
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let lock = File::create(directory.with_extension("lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    let installed = directory.with_extension("installed");
    if directory.exists() && fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    install()?;
    fs::write(&installed, wanted).map_err(|e| e.to_string())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output =
        output_in_time(command).map_err(|e| format!("{:?}: {e}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = complaint.lines().rev().take(5).collect();
    Err(format!(
        "{:?} failed: {}",
        command.get_program(),
        last.into_iter().rev().collect::<Vec<_>>().join(" / ")
    ))
}

/// Like [`Command::output`], but ends the process after [`INSTALL_LIMIT`].
fn output_in_time(command: &mut Command) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + INSTALL_LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output()
}

fn install_directory() -> Result<PathBuf, String> {
    let directory = target_directory().join("interop");
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    Ok(directory)
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Proton is built from source where no wheel fits.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
