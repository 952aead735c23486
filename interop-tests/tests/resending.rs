//! Messages that are released and go to the next destination, since their sender asks for that.

use interop_tests::{
    Job, Outcome, Peer, Router, RouterBuilder, Running, available, eventually, rows,
};

const MESSAGES: usize = 20;

/// Receivers of an address, each with a router of its own or one that it shares.
struct Scene {
    near: Router,
    far: Router,
}

impl Scene {
    fn start() -> Self {
        let [near, far] = RouterBuilder::pair();
        Self { near, far }
    }

    /// A receiver that answers everything so until it is dropped.
    fn receiver(&self, at: &Router, outcome: Outcome) -> Running {
        let job = Job::receive("choosy").outcomes(&[outcome]);
        let mut receiver = Peer::Proton.start(at, job);
        receiver.expect("attached");
        receiver
    }

    fn wait_for(&self, here: u64, elsewhere: u64) {
        eventually("the sender's router knows of all receivers", || {
            rows(&self.near, "router.address").iter().any(|row| {
                row["name"] == "Mchoosy"
                    && row["subscriberCount"] == here
                    && row["remoteCount"] == elsewhere
            })
        });
    }

    fn outcomes(&self, job: Job) -> Vec<String> {
        let sent = Peer::Proton.start(&self.near, job.count(MESSAGES)).finish();
        let outcomes = sent.named("outcome");
        let outcomes = outcomes.iter().map(|event| event["outcome"].as_str());
        outcomes
            .map(|word| word.unwrap_or_default().to_owned())
            .collect()
    }
}

#[test]
fn somebody_accepts_wherever_they_are() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let scene = Scene::start();
    let _choosy = [
        scene.receiver(&scene.near, Outcome::Released),
        scene.receiver(&scene.far, Outcome::Released),
    ];
    let _willing = scene.receiver(&scene.far, Outcome::Accepted);
    scene.wait_for(1, 1);
    // Without the wish, who is near gets it, and has the last word.
    let plain = scene.outcomes(Job::send("choosy"));
    assert!(plain.iter().any(|word| word == "released"), "{plain:?}");
    let resent = scene.outcomes(Job::send("choosy").resend_released());
    assert_eq!(resent, vec!["accepted"; MESSAGES]);
    // Several frames.
    let large = Job::send("choosy").sizes(&[100_000]).resend_released();
    assert_eq!(scene.outcomes(large), vec!["accepted"; MESSAGES]);
}

#[test]
fn when_nobody_accepts_the_sender_hears_of_it() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let scene = Scene::start();
    let _choosy = [
        scene.receiver(&scene.near, Outcome::Released),
        scene.receiver(&scene.near, Outcome::Released),
        scene.receiver(&scene.far, Outcome::Released),
    ];
    scene.wait_for(2, 1);
    let resent = scene.outcomes(Job::send("choosy").resend_released());
    assert_eq!(resent, vec!["released"; MESSAGES]);
}
