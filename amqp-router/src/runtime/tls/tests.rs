use std::fs;

use rustls::pki_types::ServerName;
use tokio_rustls::{client, server};

use super::pki::Pki;
use super::*;

#[test]
fn both_ends_agree_and_the_server_learns_the_clients_user() {
    let pki = Pki::new();
    let mut settings = pki.profile("server", &["localhost"]);
    settings.uid_format = Some("on".into());
    let server = TlsProfile::load(&settings).unwrap();
    let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();

    let (client_end, server_end) = handshake(
        &server,
        ClientCertificate::Required,
        &client,
        true,
        "localhost",
    )
    .unwrap();

    let info = TlsInfo::with_format(server_end.get_ref().1, server.uid_format());
    assert_eq!(info.user.as_deref(), Some("Trust, Me;client"));
    assert_eq!((info.protocol, info.strength), ("TLSv1.3", 256));
    assert_eq!(info.cipher, "TLS_AES_256_GCM_SHA384");
    let info = TlsInfo::with_format(client_end.get_ref().1, client.uid_format());
    assert_eq!(info.user.as_deref(), Some("CN=server,O=Trust\\, Me,C=US"));
}

#[test]
fn uid_format_orders_parts_and_skips_those_missing() {
    let pki = Pki::new();
    let (certificate, _) = pki.issue("client", &[]);
    let user = |format: &str| {
        let der = pem::certificates(certificate.as_bytes()).unwrap();
        format.parse::<UidFormat>().unwrap().user(&der[0])
    };
    assert_eq!(user("nlc").as_deref(), Some("client;US"));
    assert_eq!(user("l"), None);
    assert_eq!(user("1").unwrap().len(), 40);
    assert_eq!(user("n2").unwrap().len(), "client;".len() + 64);
    assert_eq!(user("5").unwrap().len(), 128);
    assert!(
        "x".parse::<UidFormat>()
            .unwrap_err()
            .contains("'x' is unknown")
    );
    assert!("12".parse::<UidFormat>().is_err());
}

#[test]
fn a_user_can_have_another_name_than_its_id() {
    let pki = Pki::new();
    let mut settings = pki.profile("server", &["localhost"]);
    settings.uid_format = Some("n".into());
    settings.uid_name_mapping_file = Some(pki.path("names.json"));
    fs::write(
        pki.path("names.json"),
        r#"{"client": "Alice", "other": "Bob"}"#,
    )
    .unwrap();
    let server = TlsProfile::load(&settings).unwrap();
    let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();
    let (_, end) = handshake(
        &server,
        ClientCertificate::Required,
        &client,
        true,
        "localhost",
    )
    .unwrap();
    assert_eq!(
        TlsInfo::with_format(end.get_ref().1, server.uid_format())
            .user
            .as_deref(),
        Some("Alice")
    );

    for bad in ["", "[]", r#"{"client": 1}"#] {
        fs::write(pki.path("names.json"), bad).unwrap();
        assert!(fault(&settings).contains("uidNameMappingFile '"), "{bad}");
    }
}

#[test]
fn a_wrong_host_name_fails_unless_it_is_not_verified() {
    let pki = Pki::new();
    let server = TlsProfile::load(&pki.profile("server", &["other.example"])).unwrap();
    let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();
    let connect = |verify| {
        handshake(
            &server,
            ClientCertificate::NotAsked,
            &client,
            verify,
            "localhost",
        )
        .map(drop)
    };
    assert!(connect(true).unwrap_err().contains("localhost"));
    connect(false).unwrap();
}

#[test]
fn a_common_name_counts_only_without_alternative_names() {
    let pki = Pki::new();
    let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();
    let connect = |names: &[&str]| {
        let server = TlsProfile::load(&pki.profile("localhost", names)).unwrap();
        handshake(
            &server,
            ClientCertificate::NotAsked,
            &client,
            true,
            "localhost",
        )
        .map(drop)
    };
    connect(&[]).unwrap();
    connect(&["other.example"]).unwrap_err();
}

#[test]
fn a_stranger_is_refused_even_without_name_check() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    let server = TlsProfile::load(&strangers.profile("server", &["localhost"])).unwrap();
    let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();
    handshake(
        &server,
        ClientCertificate::NotAsked,
        &client,
        false,
        "localhost",
    )
    .unwrap_err();

    let server = TlsProfile::load(&pki.profile("server", &["localhost"])).unwrap();
    let mut stranger = strangers.profile("client", &[]);
    stranger.ca_cert_file = Some(pki.path("ca.crt"));
    let client = TlsProfile::load(&stranger).unwrap();
    handshake(
        &server,
        ClientCertificate::Optional,
        &client,
        true,
        "localhost",
    )
    .unwrap_err();
}

#[test]
fn a_client_without_certificate_passes_only_where_it_is_optional() {
    let pki = Pki::new();
    let server = TlsProfile::load(&pki.profile("server", &["localhost"])).unwrap();
    let mut settings = pki.profile("client", &[]);
    (settings.cert_file, settings.private_key_file) = (None, None);
    let client = TlsProfile::load(&settings).unwrap();
    let connect = |clients| handshake(&server, clients, &client, true, "localhost").map(drop);
    connect(ClientCertificate::Optional).unwrap();
    connect(ClientCertificate::Required).unwrap_err();
}

#[test]
fn certificates_are_asked_for_where_external_can_use_them() {
    use ClientCertificate::{NotAsked, Optional, Required};
    for (authenticate, mechanisms, expected) in [
        (true, &["PLAIN"][..], NotAsked),
        (false, &["EXTERNAL"], Optional),
        (true, &["EXTERNAL", "PLAIN"], Optional),
        (true, &["EXTERNAL"], Required),
    ] {
        assert_eq!(
            ClientCertificate::wanted(authenticate, mechanisms),
            expected
        );
    }
}

#[test]
fn protocols_limit_the_version() {
    let pki = Pki::new();
    let mut settings = pki.profile("server", &["localhost"]);
    settings.protocols = Some("TLSv1.1 TLSv1.2".into());
    settings.ciphers = Some("ECDHE-ECDSA-AES128-GCM-SHA256".into());
    let server = TlsProfile::load(&settings).unwrap();
    let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();
    let (_, end) = handshake(
        &server,
        ClientCertificate::NotAsked,
        &client,
        true,
        "localhost",
    )
    .unwrap();
    let info = TlsInfo::with_format(end.get_ref().1, server.uid_format());
    assert_eq!(
        (info.protocol, info.cipher),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
    );
}

#[test]
fn an_encrypted_key_opens_with_its_password_only() {
    let pki = Pki::new();
    fs::write(pki.path("enc.crt"), ENCRYPTED_KEY_CERTIFICATE).unwrap();
    fs::write(pki.path("enc.key"), ENCRYPTED_KEY).unwrap();
    let mut settings = ProfileSettings {
        name: "p".into(),
        cert_file: Some(pki.path("enc.crt")),
        private_key_file: Some(pki.path("enc.key")),
        password: Some(secret("server-password")),
        ..Default::default()
    };
    TlsProfile::load(&settings).unwrap();
    settings.password = Some(secret("wrong"));
    assert!(fault(&settings).contains("the password does not open the key"));
    settings.password = None;
    assert!(fault(&settings).contains("the profile has no password"));
}

#[test]
fn a_bad_profile_is_refused_with_profile_attribute_file_and_reason() {
    let pki = Pki::new();
    fs::write(pki.path("empty.pem"), "nothing here\n").unwrap();
    let good = pki.profile("server", &["localhost"]);
    let change = |change: fn(&mut ProfileSettings, &Pki)| {
        let mut settings = good.clone();
        change(&mut settings, &pki);
        fault(&settings)
    };
    let text = change(|s, p| s.cert_file = Some(p.path("absent.crt")));
    assert!(
        text.starts_with("sslProfile 'server': certFile '"),
        "{text}"
    );
    assert!(text.contains("absent.crt': No such file"), "{text}");
    let text = change(|s, p| s.cert_file = Some(p.path("empty.pem")));
    assert!(text.contains("contains no PEM certificate"), "{text}");
    let text = change(|s, p| s.private_key_file = Some(p.path("empty.pem")));
    assert!(text.contains("privateKeyFile"), "{text}");
    assert!(text.contains("contains no PEM private key"), "{text}");
    let text = change(|s, p| s.private_key_file = p.profile("another", &[]).private_key_file);
    assert!(
        text.contains("does not belong to the certificate"),
        "{text}"
    );
    let text = change(|s, _| s.protocols = Some("SSLv3".into()));
    assert!(
        text.contains("protocols 'SSLv3'") && text.contains("valid: TLSv1.2"),
        "{text}"
    );
    let text = change(|s, _| s.ciphers = Some("HIHG:!aNULL".into()));
    assert!(text.contains("'HIHG' is no cipher suite"), "{text}");
    let text = change(|s, _| s.uid_format = Some("q".into()));
    assert!(text.contains("uidFormat 'q'"), "{text}");

    let mut settings = good.clone();
    settings.ca_cert_file = None;
    let profile = TlsProfile::load(&settings).unwrap();
    let error = profile
        .acceptor(ClientCertificate::Optional, &[])
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("sslProfile 'server': caCertFile: "),
        "{error}"
    );
}

#[test]
fn certificates_out_of_their_time_are_refused_at_both_ends() {
    let pki = Pki::new();
    let good = TlsProfile::load(&pki.profile("good", &["localhost"])).unwrap();
    for (name, years) in [("expired", -2..-1), ("early", 1..2)] {
        let profile = pki.profile_of_years(name, &["localhost"], years);
        let bad = TlsProfile::load(&profile).unwrap();
        let wanted = ClientCertificate::Required;
        let error = handshake(&bad, wanted, &good, true, "localhost").err();
        let error = error.expect("a server out of its time");
        assert!(
            error.contains("invalid peer certificate"),
            "{name}: {error}"
        );
        let refused = handshake(&good, wanted, &bad, true, "localhost");
        assert!(refused.is_err(), "a client out of its time: {name}");
    }
}

#[test]
fn whose_certificate_is_rejected_is_told() {
    let pki = Pki::new();
    let good = TlsProfile::load(&pki.profile("good", &["localhost"])).unwrap();
    let expired = pki.profile_of_years("expired", &["localhost"], -2..-1);
    let expired = TlsProfile::load(&expired).unwrap();
    let told = |server: &TlsProfile, client: &TlsProfile| {
        let acceptor = server.acceptor(ClientCertificate::Required, &[]).unwrap();
        let connector = client.connector(true, &[]).unwrap();
        let (near, far) = tokio::io::duplex(65536);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let ends = async { tokio::join!(connector.connect(name, near), acceptor.accept(far)) };
        let (client, server) = runtime.block_on(ends);
        let text = |error: std::io::Error| explained(error).to_string();
        (client.err().map(text), server.err().map(text))
    };
    let whose = "subject 'CN=expired,O=Trust\\\\, Me,C=US', issuer 'CN=authority'";
    let (client, _) = told(&expired, &good);
    let client = client.expect("an expired server");
    assert!(
        client.starts_with("invalid peer certificate: ") && client.ends_with(whose),
        "{client}"
    );
    let (_, server) = told(&good, &expired);
    let server = server.expect("an expired client");
    assert!(
        server.starts_with("invalid peer certificate: ") && server.ends_with(whose),
        "{server}"
    );
}

#[test]
fn a_certificate_that_vouches_for_itself_is_nobody() {
    let pki = Pki::new();
    let good = TlsProfile::load(&pki.profile("good", &["localhost"])).unwrap();
    let mut settings = pki.self_signed("selfmade", &["localhost"]);
    settings.ca_cert_file = Some(pki.path("ca.crt"));
    let selfmade = TlsProfile::load(&settings).unwrap();
    let wanted = ClientCertificate::Optional;
    assert!(handshake(&selfmade, wanted, &good, true, "localhost").is_err());
    assert!(handshake(&good, wanted, &selfmade, true, "localhost").is_err());
}

#[test]
fn a_peers_names_are_those_of_its_certificate() {
    let pki = Pki::new();
    let server = TlsProfile::load(&pki.profile("server", &["localhost"])).unwrap();
    let client = TlsProfile::load(&pki.profile("east", &["east.example", "10.1.2.3"])).unwrap();
    let wanted = ClientCertificate::Required;
    let (_, end) = handshake(&server, wanted, &client, true, "localhost").unwrap();
    let names = TlsInfo::with_format(end.get_ref().1, server.uid_format()).certificate;
    assert_eq!(names.subject.as_deref(), Some("CN=east,O=Trust\\, Me,C=US"));
    assert_eq!(names.alternatives, ["DNS:east.example", "IP:10.1.2.3"]);
}

#[test]
fn a_client_that_comes_back_resumes_its_session_with_its_identity() {
    let pki = Pki::new();
    let server = TlsProfile::load(&pki.profile("server", &["localhost"])).unwrap();
    let client = TlsProfile::load(&pki.profile("client", &[])).unwrap();
    let acceptor = server.acceptor(ClientCertificate::Required, &[]).unwrap();
    let connector = client.connector(true, &[]).unwrap();
    let kinds = [0; 2].map(|_| {
        let (_, end) = shake_hands(&acceptor, &connector, "localhost").unwrap();
        let info = TlsInfo::with_format(end.get_ref().1, server.uid_format());
        assert_eq!(info.user.as_deref(), Some("CN=client,O=Trust\\, Me,C=US"));
        end.get_ref().1.handshake_kind()
    });
    assert_eq!(kinds[0], Some(rustls::HandshakeKind::Full));
    assert_eq!(kinds[1], Some(rustls::HandshakeKind::Resumed));
}

#[test]
fn the_ends_agree_on_an_application_protocol_and_a_server_name() {
    let pki = Pki::new();
    let profile = TlsProfile::load(&pki.profile("both", &["localhost"])).unwrap();
    let acceptor = profile
        .acceptor(ClientCertificate::NotAsked, &[b"amqp", b"http/1.1"])
        .unwrap();
    let connector = profile.connector(true, &[b"http/1.1"]).unwrap();
    let (_, end) = shake_hands(&acceptor, &connector, "localhost").unwrap();
    let info = TlsInfo::with_format(end.get_ref().1, profile.uid_format());
    assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(end.get_ref().1.server_name(), Some("localhost"));
}

fn secret(text: &str) -> Secret {
    crate::runtime::secret::resolve(&format!("pass:{text}"), true).unwrap()
}

fn fault(settings: &ProfileSettings) -> String {
    TlsProfile::load(settings)
        .expect_err("a bad profile")
        .to_string()
}

type Ends = (
    client::TlsStream<tokio::io::DuplexStream>,
    server::TlsStream<tokio::io::DuplexStream>,
);

fn handshake(
    server: &TlsProfile,
    clients: ClientCertificate,
    client: &TlsProfile,
    verify_hostname: bool,
    host: &'static str,
) -> Result<Ends, String> {
    let acceptor = server.acceptor(clients, &[]).unwrap();
    let connector = client.connector(verify_hostname, &[]).unwrap();
    shake_hands(&acceptor, &connector, host)
}

fn shake_hands(
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    host: &'static str,
) -> Result<Ends, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (near, far) = tokio::io::duplex(65536);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (client, server) = runtime.block_on(async {
        let connect = async {
            let mut stream = connector
                .connect(ServerName::try_from(host).unwrap(), near)
                .await?;
            stream.read_u8().await?; // in TLS 1.3 a client learns of its refusal only now
            Ok::<_, std::io::Error>(stream)
        };
        let accept = async {
            let mut stream = acceptor.accept(far).await?;
            stream.write_u8(0).await?;
            stream.flush().await?;
            Ok::<_, std::io::Error>(stream)
        };
        tokio::join!(connect, accept)
    });
    Ok((
        client.map_err(|e| e.to_string())?,
        server.map_err(|e| e.to_string())?,
    ))
}

/// Made by `openssl pkcs8 -topk8` with the password `server-password`.
const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhREUCg7ikrWwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKRBv1/lYzN+/HaIZwUtKGsEgZBO
tSchUmXzCJVMZSKHqpiszXPMeG0DZKJ/Ah7w37FtR9WZ+FD13WoqNe2Nje+JrHfR
4/JeZU3lgPQZJTb1krF30xCwilPDYHdMp04s7+p0/MIVgCWal1RIcsb/ic3pXFiv
CkGF+9Uk3ktiPo+29E2WxOUDunl8rcJ6RWXe1f2X+mH9ymEy+7M9EPvk5k9nOfM=
-----END ENCRYPTED PRIVATE KEY-----
";

const ENCRYPTED_KEY_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUcgkXPhrqjEUr3Qmk5CV7XLviIQAwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGc2VydmVyMCAXDTI2MTEyMzA2Mjg0MVoYDzIxMjYxMDMwMDYy
ODQxWjARMQ8wDQYDVQQDDAZzZXJ2ZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARv2WqtlEeEssLoq41q40ASdvlyyPD3t/5e76ChcMn5KzALD7pA/4UOCNsW3hqb
nIu/dxmf4qU5XAe7W3RFpoQ7o1MwUTAdBgNVHQ4EFgQU9gEdrqmYUASFWGYD087w
6NJ0ZmYwHwYDVR0jBBgwFoAU9gEdrqmYUASFWGYD087w6NJ0ZmYwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBJw3i5Vez9Ne+2Pb5o+kD0CDN4pz9F
eTmXUgSRj7PJ9gIhAJ2Jm+0ikVwl1Ln7iQasERf+0Yjev2PnRlr1pojluCsE
-----END CERTIFICATE-----
";
