//! Whatever happens, a collector that follows knows what there is.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::collector::{Story, Told};
use crate::codec::Value;
use crate::vanflow::{Attribute, Datum, FlowEvent, FlowKey, RecordId, RecordType, Watched};

#[derive(Clone, Debug)]
enum Event {
    Begin(bool),
    Set(prop::sample::Index, u32, u64),
    End(prop::sample::Index),
    Flush,
    /// The collector is not there for a while, and asks for everything when it is back.
    Away(u64),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(Event::Begin),
        (any::<prop::sample::Index>(), 5u32..68, 0u64..3)
            .prop_map(|(which, code, value)| Event::Set(which, code, value)),
        any::<prop::sample::Index>().prop_map(Event::End),
        Just(Event::Flush),
        (0u64..3000).prop_map(Event::Away),
        (0u64..1500).prop_map(Event::Wait),
    ]
}

/// What a collector has understood.
#[derive(Default)]
struct Follower(BTreeMap<String, Told>);

impl Follower {
    fn run(&mut self, story: &mut Story, millis: u64) {
        for heard in story.run(millis) {
            for record in heard.records {
                let name = record[&1].as_str().expect("a name").to_owned();
                self.0.entry(name).or_default().extend(record);
            }
        }
    }
}

fn datum(code: u32, value: u64) -> (Attribute, Datum) {
    let attribute = Attribute::of_code(code).expect("a code");
    match attribute.kind() {
        crate::vanflow::attribute::Kind::Number => (attribute, value.into()),
        crate::vanflow::attribute::Kind::Text => (attribute, value.to_string().into()),
    }
}

fn play(events: &[Event]) -> (Story, Follower) {
    let (mut story, mut follower) = (Story::new(), Follower::default());
    let watch = |story: &mut Story, there| {
        for watched in [Watched::Entities, Watched::Flows] {
            story.usable(watched, there);
        }
    };
    watch(&mut story, true);
    let mut records: Vec<(RecordId, bool)> = Vec::new();
    for event in events {
        let now = story.now();
        match event {
            Event::Begin(true) => {
                let origin = story.vanflow.origin();
                assert!(origin.admit());
                let record = origin.next_id();
                let listener = RecordId(0);
                story.vanflow.flow(FlowEvent::Began {
                    record,
                    listener,
                    at: now,
                });
                records.push((record, true));
            }
            Event::Begin(false) => {
                records.push((story.vanflow.begin(RecordType::Link, now), false));
            }
            Event::Set(which, code, value) if !records.is_empty() => {
                let (attribute, datum) = datum(*code, *value);
                story.vanflow.set(which.get(&records).0, attribute, datum);
            }
            Event::End(which) if !records.is_empty() => {
                let (record, is_flow) = records.swap_remove(which.index(records.len()));
                match is_flow {
                    true => story
                        .vanflow
                        .flow(FlowEvent::Ended(FlowKey::Own(record), now)),
                    false => story.vanflow.end(record, now),
                }
            }
            Event::Away(millis) => {
                watch(&mut story, false);
                follower.run(&mut story, *millis);
                watch(&mut story, true);
                story.vanflow.flush();
            }
            Event::Wait(millis) => follower.run(&mut story, *millis),
            Event::Flush => story.vanflow.flush(),
            Event::Set(..) | Event::End(_) => {}
        }
    }
    follower.run(&mut story, 8000);
    (story, follower)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn who_follows_knows_what_there_is(events in prop::collection::vec(event(), 0..120)) {
        let (story, follower) = play(&events);
        for (id, record) in story.vanflow.store.records() {
            let told = &follower.0[&story.vanflow.store.name(id)];
            prop_assert!(!told.contains_key(&4));
            for (attribute, datum) in record.attributes.all() {
                let expected = match datum {
                    Datum::Number(number) => Value::Ulong(*number),
                    Datum::Text(text) => Value::from(&**text),
                };
                prop_assert_eq!(told.get(&attribute.code()), Some(&expected));
            }
        }
    }

    #[test]
    fn what_has_ended_leaves_nothing(events in prop::collection::vec(event(), 0..120)) {
        let (story, _) = play(&events);
        let live: usize = story.vanflow.store.records().count();
        let begun = events.iter().filter(|event| matches!(event, Event::Begin(_))).count();
        prop_assert!(live <= begun + 1);
        prop_assert_eq!(story.vanflow.size(), live);
        let flows = story.vanflow.store.records();
        let flows = flows.filter(|(_, record)| record.kind == RecordType::BiflowTport).count();
        prop_assert_eq!(story.vanflow.origin().live() as usize, flows);
    }
}
