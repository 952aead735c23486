//! AMQP over WebSocket in a real browser, by a page that the router itself serves.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use interop_tests::{Job, Peer, Router, RouterBuilder, available, browser_client, get, skip};
use serde_json::json;
use tempfile::TempDir;

#[test]
fn a_page_from_the_router_talks_to_other_clients() {
    if !available(&[Peer::Fe2o3, Peer::Rhea]) || !Router::is_ours_to_configure() {
        return;
    }
    let Some(browser) = browser() else {
        skip("no Chromium is installed (CHROMIUM names one that is elsewhere)");
        return;
    };
    let site = TempDir::new().expect("a temporary directory");
    browser_client(site.path());
    let router = RouterBuilder::plain()
        .listener("web", json!({"httpRootDir": site.path()}))
        .start();
    let port = router.port("web");

    let mut heard = Peer::Fe2o3.start(&router, Job::receive("from-the-page").count(4));
    heard.expect("attached");
    let profile = TempDir::new().expect("a temporary directory");
    let _browser = Browser::open(&browser, profile.path(), port);
    heard.expect("message");
    let sent = Peer::Rhea
        .start(
            &router,
            Job::send("to-the-page").count(3).sizes(&[10, 200_000]),
        )
        .finish();
    assert_eq!(sent.named("outcome").len(), 3, "{sent}");
    assert_eq!(heard.finish().named("message").len(), 4);
}

#[test]
fn the_site_is_served_and_what_is_beside_it_is_not() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let outside = TempDir::new().expect("a temporary directory");
    let site = outside.path().join("site");
    fs::create_dir(&site).expect("a directory");
    fs::write(outside.path().join("secret"), "secret").expect("a file");
    fs::write(site.join("index.html"), "hello").expect("a file");
    let router = RouterBuilder::plain()
        .listener("web", json!({"httpRootDir": site}))
        .start();
    let page = |path: &str| get(&router, "web", path);
    assert_eq!(page("/"), (200, "hello".to_owned()));
    assert_eq!(page("/healthz"), (200, "OK\n".to_owned()));
    for path in ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "//secret"] {
        assert_eq!(page(path), (404, "not found\n".to_owned()), "{path}");
    }
}

#[test]
fn a_site_of_skupper_has_health_and_metrics_and_no_files() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let listener = json!({"httpRootDir": "disabled", "healthz": true, "metrics": true});
    let router = RouterBuilder::plain().listener("web", listener).start();
    let page = |path: &str| get(&router, "web", path);
    assert_eq!(page("/healthz"), (200, "OK\n".to_owned()));
    assert_eq!(page("/metrics").0, 200);
    assert_eq!(page("/").0, 404);
}

/// A browser that shows one page, without a window.
struct Browser(Child);

impl Browser {
    fn open(program: &Path, profile: &Path, port: u16) -> Self {
        let mut command = Command::new(program);
        command
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            // It never ends by itself while this is open.
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("http://127.0.0.1:{port}/"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("the browser starts"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn browser() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    env::split_paths(&path)
        .flat_map(|directory| names.map(|name| directory.join(name)))
        .find(|program| program.exists())
}
