use super::*;
use crate::runtime::users::{Users, UsersFile};

#[test]
fn without_a_list_whatever_is_possible_is_offered() {
    let listener = authenticator(SaslSettings::default());
    assert_eq!(
        names(&listener, None),
        ["SCRAM-SHA-256", "PLAIN", "ANONYMOUS"]
    );
    assert_eq!(
        names(&listener, Some(&tls(None))),
        ["SCRAM-SHA-256", "PLAIN", "ANONYMOUS"]
    );
    let certified = tls(Some("CN=alice"));
    assert_eq!(
        names(&listener, Some(&certified)),
        ["EXTERNAL", "SCRAM-SHA-256", "PLAIN", "ANONYMOUS"]
    );
    assert!(!listener.is_required());
}

#[test]
fn an_attempt_is_told_without_its_secret() {
    assert_eq!(
        attempt("PLAIN", b"\0a\nb\0secret", None),
        " as 'a\\nb' by PLAIN"
    );
    assert_eq!(attempt("PLAIN", b"secret", None), " by PLAIN");
    assert_eq!(
        attempt("SCRAM-SHA-256", b"n,,n=ann,r=x", None),
        " as 'ann' by SCRAM-SHA-256"
    );
    assert_eq!(
        attempt("EXTERNAL", b"CN=bob", Some(&tls(Some("CN=ann")))),
        " as 'CN=ann' by EXTERNAL"
    );
    assert_eq!(
        attempt(&"x".repeat(99), b"secret", None).len(),
        4 + MAX_SHOWN
    );
}

#[test]
fn the_list_limits_what_is_offered() {
    let list = |list: &str| SaslSettings {
        mechanisms: Some(list.into()),
        ..Default::default()
    };
    let listener = authenticator(list("ANONYMOUS,external DIGEST-MD5"));
    assert_eq!(
        names(&listener, Some(&tls(Some("x")))),
        ["EXTERNAL", "ANONYMOUS"]
    );
    let listener = Authenticator::new(list("PLAIN"));
    assert_eq!(names(&listener, None), [""; 0], "no users file");
}

#[test]
fn a_peer_that_must_authenticate_cannot_be_anonymous() {
    let listener = authenticator(SaslSettings {
        authenticate_peer: true,
        ..Default::default()
    });
    assert!(listener.is_required());
    assert_eq!(names(&listener, None), ["SCRAM-SHA-256", "PLAIN"]);
    assert!(matches!(
        listener.authenticate("ANONYMOUS", b"", None),
        Outcome::Rejected {
            reason: "the mechanism was not offered"
        }
    ));
}

#[test]
fn nothing_goes_in_clear_where_encryption_is_required() {
    let listener = authenticator(SaslSettings {
        require_encryption: true,
        ..Default::default()
    });
    assert_eq!(names(&listener, None), [""; 0]);
    assert!(!accepts(&listener, "PLAIN", b"\0alice\0secret", None));
    assert!(accepts(
        &listener,
        "PLAIN",
        b"\0alice\0secret",
        Some(&tls(None))
    ));
}

#[test]
fn a_listener_that_keeps_everybody_out_is_found() {
    let shut = |list: Option<&str>, change: fn(&mut SaslSettings)| {
        let mut settings = SaslSettings {
            mechanisms: list.map(str::to_owned),
            authenticate_peer: true,
            ..Default::default()
        };
        change(&mut settings);
        Authenticator::new(settings).shut().unwrap_or_default()
    };
    let in_clear = |_: &mut SaslSettings| {};
    let with_tls = |settings: &mut SaslSettings| settings.can_encrypt = true;
    let encrypted_only = |settings: &mut SaslSettings| settings.require_encryption = true;
    let for_anyone = |settings: &mut SaslSettings| settings.authenticate_peer = false;
    for (list, change, expected) in [
        (
            Some("EXTERNAL"),
            in_clear as fn(&mut SaslSettings),
            "EXTERNAL needs an sslProfile",
        ),
        (None, in_clear, "EXTERNAL needs an sslProfile"),
        (Some("PLAIN"), with_tls, "PLAIN and SCRAM need a users file"),
        (None, encrypted_only, "no sslProfile to encrypt with"),
    ] {
        let reason = shut(list, change);
        assert!(reason.contains(expected), "{list:?}: {reason}");
    }
    assert_eq!(shut(Some("EXTERNAL"), with_tls), "");
    assert_eq!(shut(Some("ANONYMOUS"), for_anyone), "");
    assert_eq!(shut(None, for_anyone), "");
}

#[test]
fn plain_takes_the_right_password_for_the_user_itself() {
    let listener = authenticator(SaslSettings::default());
    let outcome = listener.authenticate("PLAIN", b"alice\0alice\0secret", None);
    assert_eq!(
        outcome,
        Outcome::Accepted {
            user: "alice".into(),
            mechanism: Mechanism::Plain
        }
    );
    for response in [
        &b"\0alice\0wrong"[..],
        b"\0bob\0secret",
        b"bob\0alice\0secret",
        b"",
        b"\0alice",
        b"\0\0",
        b"\0alice\0secret\0",
        b"\0alice\0\xff",
        &[b'a'; 4000],
    ] {
        assert!(!accepts(&listener, "PLAIN", response, None), "{response:?}");
    }
}

#[test]
fn external_is_who_the_certificate_says() {
    let listener = authenticator(SaslSettings::default());
    let peer = tls(Some("CN=alice"));
    assert!(accepts(&listener, "EXTERNAL", b"", Some(&peer)));
    assert!(accepts(&listener, "EXTERNAL", b"CN=alice", Some(&peer)));
    assert!(!accepts(&listener, "EXTERNAL", b"CN=bob", Some(&peer)));
    assert!(!accepts(&listener, "EXTERNAL", b"", Some(&tls(None))));
    assert!(!accepts(&listener, "EXTERNAL", b"", None));
}

#[test]
fn passwords_are_checked_beside_the_caller() {
    let listener = Arc::new(authenticator(SaslSettings::default()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let response = Zeroizing::new(b"\0alice\0secret".to_vec());
    let outcome = listener.authenticate_in_background("PLAIN".into(), response, None);
    assert!(matches!(
        runtime.block_on(outcome),
        Outcome::Accepted { .. }
    ));
}

#[test]
fn scram_is_offered_for_what_users_can_use_and_refused_otherwise() {
    let listener = authenticator(SaslSettings {
        mechanisms: Some("SCRAM-SHA-512 SCRAM-SHA-256".into()),
        ..Default::default()
    });
    assert_eq!(names(&listener, None), ["SCRAM-SHA-256"]);
    let first = b"n,,n=alice,r=abc";
    assert!(listener.challenge(ScramHash::Sha256, first, None).is_ok());
    for hash in [ScramHash::Sha512, ScramHash::Sha1] {
        assert_eq!(
            listener.challenge(hash, first, None).err(),
            Some(NOT_OFFERED)
        );
    }
    assert!(!accepts(&listener, "SCRAM-SHA-256", first, None));
    let listener = authenticator(SaslSettings {
        require_encryption: true,
        ..Default::default()
    });
    assert!(listener.challenge(ScramHash::Sha256, first, None).is_err());
}

thread_local! {
    static DIRECTORY: tempfile::TempDir = tempfile::tempdir().unwrap();
}

fn authenticator(settings: SaslSettings) -> Authenticator {
    let mut users = Users::default();
    users.set("alice", "secret", 4096).unwrap();
    let users = DIRECTORY.with(|directory| {
        let file = directory.path().join("users");
        users.save(&file).unwrap();
        UsersFile::open(&file).unwrap()
    });
    Authenticator::new(SaslSettings {
        users: Some(Arc::new(Logins::new(users))),
        ..settings
    })
}

fn tls(user: Option<&str>) -> TlsInfo {
    TlsInfo {
        protocol: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384",
        strength: 256,
        user: user.map(str::to_owned),
        alpn: None,
        certificate: Default::default(),
        profile: Default::default(),
        ordinal: 0,
    }
}

fn names(listener: &Authenticator, tls: Option<&TlsInfo>) -> Vec<&'static str> {
    listener
        .offered(tls)
        .into_iter()
        .map(Mechanism::as_str)
        .collect()
}

fn accepts(
    listener: &Authenticator,
    mechanism: &str,
    response: &[u8],
    tls: Option<&TlsInfo>,
) -> bool {
    matches!(
        listener.authenticate(mechanism, response, tls),
        Outcome::Accepted { .. }
    )
}
