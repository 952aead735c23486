//! Every report of a made-up router, against the files of `tests/golden`.
//!
//! With UPDATE_GOLDEN set, the files are written instead; what git then shows is to be read.

use std::fs;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::Report;
use crate::client::Rows;
use crate::table::Style;

#[test]
fn every_report_fits_80_and_140_columns_and_is_json() {
    for (report, name) in REPORTS {
        let found = rows_of(*report);
        for width in [80, 140] {
            let style = Style {
                width: Some(width),
                colour: false,
            };
            let text = report.text(&found, style);
            check(&format!("{name}.{width}.txt"), &text);
        }
        check(
            &format!("{name}.json"),
            &format!("{:#}\n", report.json(&found)),
        );
    }
}

#[test]
fn a_router_without_anything_has_all_reports_too() {
    for (report, name) in REPORTS {
        let found: Vec<Rows> = report.types().iter().map(|_| Rows::default()).collect();
        let style = Style {
            width: Some(80),
            colour: false,
        };
        let text = report.text(&found, style);
        assert!(text.ends_with('\n'), "{name}: {text}");
    }
}

#[test]
fn a_query_shows_the_columns_that_say_something_or_are_wanted() {
    let mut found = rows_of(Report::Addresses);
    let rows = &mut found[0].rows;
    for row in rows.iter_mut() {
        row.insert("silent".into(), Json::Null);
    }
    let all: Vec<String> = rows[0].keys().cloned().collect();
    for (name, width) in [("query.140.txt", 140), ("query.80.txt", 80)] {
        let style = Style {
            width: Some(width),
            colour: false,
        };
        check(name, &super::of_query(&all, rows, false, style));
    }
    let style = Style {
        width: None,
        colour: false,
    };
    let wanted = ["key", "silent"].map(str::to_owned);
    check(
        "query.wanted.txt",
        &super::of_query(&wanted, rows, true, style),
    );
}

const REPORTS: &[(Report, &str)] = &[
    (Report::Status, "status"),
    (Report::Connections, "connections"),
    (Report::Links, "links"),
    (Report::Addresses, "addresses"),
    (Report::Nodes, "nodes"),
    (Report::AutoLinks, "auto-links"),
    (Report::Tcp, "tcp"),
    (Report::Memory, "memory"),
    (Report::Log, "log"),
];

/// The made-up router's rows, as `rows.json` has them by type.
fn rows_of(report: Report) -> Vec<Rows> {
    let text = fs::read_to_string(file("rows.json")).expect("the rows");
    let all: Json = serde_json::from_str(&text).expect("JSON");
    let of = |kind: &&str| {
        let rows = all[*kind].as_array().expect("every type has rows");
        let rows = rows.iter().filter_map(|row| row.as_object().cloned());
        Rows {
            names: Vec::new(),
            rows: rows.collect(),
        }
    };
    report.types().iter().map(of).collect()
}

/// Compares with a file.
pub(crate) fn check(name: &str, is: &str) {
    let file = file(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, is).expect("the file can be written");
    }
    let should = fs::read_to_string(&file).expect("the file is there");
    assert_eq!(is, should, "{name}; UPDATE_GOLDEN=1 writes it anew");
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}
