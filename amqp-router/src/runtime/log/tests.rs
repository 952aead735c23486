use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;
use tracing::{debug, error, error_span, info, info_span, warn};

use super::*;

/// Call sites have a constant target and level each.
macro_rules! say_at_each_level {
    ($target:literal) => {
        debug!(target: $target, "text");
        info!(target: $target, "text");
        warn!(target: $target, "text");
        error!(target: $target, "text");
        error!(target: $target, critical = true, "text");
    };
}

#[test]
fn a_line_reads_as_skrouterd_writes_it() {
    let log = TestLog::new(Format::Text);
    log.during(|| info!(target: "SERVER", "Operational, {} Threads Running", 2));
    let line = log.lines().remove(0);
    let (time, rest) = line.split_at("2026-11-23 03:48:39.774844 +0000".len());
    assert_eq!(rest, " SERVER (info) Operational, 2 Threads Running");
    assert!(
        jiff::fmt::strtime::parse(TimeFormat::DEFAULT, time).is_ok(),
        "{time}"
    );
}

#[test]
fn modules_and_levels_decide_what_is_written() {
    let log = TestLog::bare("warning+");
    log.configure(Module::RouterCore, "debug info");
    log.configure(Module::Agent, "none");
    log.during(|| {
        say_at_each_level!("ROUTER_CORE");
        say_at_each_level!("AGENT");
        say_at_each_level!("SERVER");
    });
    let expected = [
        "ROUTER_CORE (debug) text",
        "ROUTER_CORE (info) text",
        "SERVER (warning) text",
        "SERVER (error) text",
        "SERVER (critical) text",
    ];
    assert_eq!(log.lines(), expected);
    assert_eq!(log.log.count(Module::Server, Level::Error), 1);
    assert_eq!(log.log.count(Module::Server, Level::Info), 0);
}

#[test]
fn levels_change_at_run_time() {
    let log = TestLog::bare("info+");
    log.during(|| {
        let say = || debug!(target: "POLICY", "now");
        say();
        log.configure(Module::Policy, "debug+");
        say();
        log.configure(Module::Policy, "info+");
        say();
    });
    assert_eq!(log.lines(), ["POLICY (debug) now"]);
}

#[test]
fn connection_and_link_go_before_the_text() {
    let log = TestLog::bare("info+");
    log.during(|| {
        info!(target: "SERVER", conn = 1, link = 2u32, "on the event");
        let connection = error_span!("connection", conn = 3).entered();
        info!(target: "SERVER", "in a span");
        let link = info_span!("link", link = 4).entered();
        info!(target: "SERVER", dir = "in", credit = 250, "in two");
        drop((link, connection));
        info!(target: "SERVER", "outside");
    });
    let expected = [
        "SERVER (info) [C1][L2] on the event",
        "SERVER (info) [C3] in a span",
        "SERVER (info) [C3][L4] in two dir=in credit=250",
        "SERVER (info) outside",
    ];
    assert_eq!(log.lines(), expected);
}

#[test]
fn a_peer_cannot_write_lines_of_its_own() {
    let log = TestLog::bare("info+");
    let name = "x\nROUTER (critical) doom\u{1b}[2J";
    log.during(|| info!(target: "SERVER", container = name, "from {name}"));
    let lines = log.lines();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].contains("from x\\nROUTER") && lines[0].contains("\\u{1b}"),
        "{}",
        lines[0]
    );
}

#[test]
fn json_has_a_member_for_each_part() {
    let log = TestLog::new(Format::Json);
    log.configure(Module::Default, "info+");
    log.during(|| warn!(target: "HTTP", conn = 7, path = "/", "odd \"request\""));
    let line: serde_json::Value = serde_json::from_str(&log.lines()[0]).unwrap();
    assert_eq!(line["module"], "HTTP");
    assert_eq!(line["level"], "warning");
    assert_eq!(line["conn"], 7);
    assert_eq!(line["text"], "odd \"request\"");
    assert_eq!(line["path"], "/");
}

#[test]
fn the_source_is_given_where_it_is_wanted() {
    let log = TestLog::bare("info+");
    let settings = Settings {
        include_source: Some(true),
        ..Default::default()
    };
    log.log.configure(Module::Server, settings).unwrap();
    log.during(|| info!(target: "SERVER", "text"));
    let line = log.lines().remove(0);
    assert!(line.starts_with("SERVER (info) text ("), "{line}");
    assert!(line.contains("log/tests.rs:"), "{line}");
}

#[test]
fn a_module_can_have_a_file_of_its_own() {
    let log = TestLog::bare("info+");
    let other = log.directory.path().join("other");
    let settings = Settings {
        output_file: Some(other.display().to_string()),
        ..Default::default()
    };
    log.log.configure(Module::Policy, settings.clone()).unwrap();
    assert_eq!(log.log.settings(Module::Policy), settings);
    log.during(|| {
        info!(target: "POLICY", "here");
        info!(target: "SERVER", "there");
    });
    assert_eq!(log.lines(), ["SERVER (info) there"]);
    assert_eq!(fs::read_to_string(other).unwrap(), "POLICY (info) here\n");

    let absent = Settings {
        output_file: Some("/absent/log".into()),
        ..Default::default()
    };
    let error = log
        .log
        .configure(Module::Policy, absent)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "log/POLICY: Configuration: Failed to open log file '/absent/log', the 'outputFile': No such"
        ),
        "{error}"
    );
}

#[test]
fn the_last_thousand_entries_are_kept() {
    let log = TestLog::bare("info+");
    log.during(|| {
        for number in 0..1100 {
            info!(target: "SERVER", conn = 5, "entry {number}");
        }
    });
    let recent = log.log.recent(usize::MAX);
    assert_eq!(recent.len(), Log::KEPT);
    assert_eq!(recent[0].text, "[C5] entry 100");
    let last = &log.log.recent(1)[0];
    assert_eq!(
        (last.text.as_str(), last.module),
        ("[C5] entry 1099", Module::Server)
    );
    assert!(last.file.ends_with("tests.rs") && last.line > 0);
}

#[test]
fn enable_is_a_list_of_levels() {
    use Level::{Critical, Debug, Error, Info, Warning};
    for (text, expected) in [
        ("info+", &[Info, Warning, Error, Critical][..]),
        ("debug, error+", &[Debug, Error, Critical]),
        ("WARNING;critical:none", &[Warning, Critical]),
        ("trace+", &[Debug, Info, Warning, Error, Critical]),
        ("none", &[]),
        ("critical+", &[Critical]),
        ("warn+", &[Warning, Error, Critical]),
    ] {
        let levels: Levels = text.parse().unwrap();
        let all = [Debug, Info, Warning, Error, Critical];
        assert_eq!(
            all.into_iter()
                .filter(|l| levels.contains(*l))
                .collect::<Vec<_>>(),
            expected
        );
    }
    assert_eq!(Levels::default(), "info+".parse().unwrap());
    assert!(
        "notice+"
            .parse::<Levels>()
            .unwrap_err()
            .to_string()
            .contains("'notice+'")
    );
}

#[test]
fn targets_are_modules_or_paths() {
    assert_eq!(Module::COUNT, 23);
    for (target, module) in [
        ("FLOW_LOG", Module::FlowLog),
        ("amqp_router::mesh::hello", Module::RouterHello),
        ("amqp_router::mesh::spf", Module::Router),
        ("amqp_router::endpoint::session", Module::Protocol),
        ("amqp_router::router", Module::Router),
        ("amqp_router_extra", Module::Default),
        ("hyper::proto", Module::Default),
    ] {
        assert_eq!(Module::of_target(target), module, "{target}");
    }
}

#[test]
fn the_time_can_be_written_otherwise() {
    TimeFormat::new(Some("%s"), true).unwrap();
    let error = TimeFormat::new(Some("%K"), true).unwrap_err().to_string();
    assert!(error.starts_with("timestampFormat '%K': "), "{error}");
}

/// A log that writes into a file, one at a time: call sites are decided anew for the whole
/// process, and by the subscriber of the thread that asks for it.
struct TestLog {
    log: Log,
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl TestLog {
    fn new(format: Format) -> Self {
        let test = Self {
            log: Log::new(format),
            directory: tempfile::tempdir().unwrap(),
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        };
        test.set(Settings::default());
        test
    }

    /// Lines without time.
    fn bare(enable: &str) -> Self {
        let test = Self::new(Format::Text);
        test.set(Settings {
            enable: Some(enable.parse().unwrap()),
            include_timestamp: Some(false),
            ..Default::default()
        });
        test
    }

    fn set(&self, settings: Settings) {
        let file = self.directory.path().join("log").display().to_string();
        let settings = Settings {
            output_file: Some(file),
            ..settings
        };
        self.log.configure(Module::Default, settings).unwrap();
    }

    fn configure(&self, module: Module, enable: &str) {
        let enable = Some(enable.parse().unwrap());
        let kept = self.log.settings(module);
        self.log
            .configure(module, Settings { enable, ..kept })
            .unwrap();
    }

    fn during(&self, work: impl FnOnce()) {
        let subscriber = tracing_subscriber::registry().with(self.log.layer());
        tracing::subscriber::with_default(subscriber, work);
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("log")).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}
