use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant as Virtual;

use super::*;

#[test]
fn whoever_is_let_in_hears_it_at_once() {
    on_virtual_time(async {
        let (judged, mut heard) = judged(&Arc::default(), Some("10.0.0.1"));
        let outcome = Outcome::Accepted {
            user: "alice".into(),
            mechanism: Mechanism::Plain,
        };
        let began = Virtual::now();
        judged.tell(" as 'alice'", outcome, Some("v=x".into()));
        let expected = Authentication::Accepted {
            user: Some("alice".into()),
            mechanism: "PLAIN".into(),
            proof: Some("v=x".into()),
        };
        assert_eq!(answer(&mut heard).await, expected);
        assert!(began.elapsed().is_zero());
    });
}

#[test]
fn every_refusal_of_a_source_takes_longer_and_those_of_others_do_not() {
    on_virtual_time(async {
        let sources = Arc::default();
        let refuse = async |source| {
            let (judged, mut heard) = judged(&sources, source);
            let reason = "the password is wrong";
            let began = Virtual::now();
            judged.tell("", Outcome::Rejected { reason }, None);
            assert_eq!(answer(&mut heard).await, Authentication::Rejected);
            began.elapsed().as_millis()
        };
        assert_eq!(refuse(Some("10.0.0.1")).await, 100);
        assert_eq!(refuse(Some("10.0.0.1")).await, 200);
        assert_eq!(refuse(Some("10.0.0.2")).await, 100);
        assert_eq!(refuse(None).await, 0, "its connection is gone");
        assert_eq!(lock(&sources).counts().logins_failed, 3);
    });
}

#[test]
fn a_login_that_is_one_too_many_is_refused_unheard_until_another_ends() {
    on_virtual_time(async {
        let sources = Arc::default();
        let of = |source| judged(&sources, Some(source));
        let (first, mut heard) = of("10.0.0.1");
        let mut seats: Vec<_> = std::iter::from_fn(|| first.seat().ok()).collect();
        let refused = first.seat().map(drop).unwrap_err();
        assert!(of("10.0.0.2").0.seat().is_ok(), "another's are its own");
        let began = Virtual::now();
        first.refuse(refused);
        assert_eq!(answer(&mut heard).await, Authentication::Rejected);
        assert_eq!(began.elapsed(), REFUSAL_DELAY);
        seats.pop();
        assert!(of("10.0.0.1").0.seat().is_ok());
    });
}

fn judged(
    sources: &Arc<Mutex<Sources>>,
    source: Option<&str>,
) -> (Judged, UnboundedReceiver<ToWorker>) {
    let (inbox, heard) = unbounded_channel();
    let judged = Judged {
        connection: ConnectionId(3),
        id: 7,
        inbox,
        sources: Arc::clone(sources),
        source: source.map(|source| source.parse().unwrap()),
        host: "10.0.0.1:5".into(),
    };
    (judged, heard)
}

async fn answer(heard: &mut UnboundedReceiver<ToWorker>) -> Authentication {
    match heard.recv().await {
        Some(ToWorker::Authenticated {
            connection: ConnectionId(3),
            id: 7,
            result,
        }) => result,
        _ => panic!("not what the connection waits for"),
    }
}

fn on_virtual_time(story: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(story);
}
