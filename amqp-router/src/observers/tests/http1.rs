//! Conversations of HTTP/1.

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_request_and_its_answer_are_seen() {
    let said: Conversation<'_> = &[(Client, GET), (Service, OK)];
    let expected = [
        "0 GET HTTP/1.1",
        "0 answered after 1",
        "0 200 OK",
        "0 ended 0/5",
        "end",
    ];
    assert_eq!(seen(Watch::Auto, said), expected);
    assert_eq!(seen(Watch::Http1, said), expected);
    assert_cuts_do_not_matter(said);
}

#[test]
fn bodies_are_counted_however_their_ends_show() {
    let said: Conversation<'_> = &[
        (
            Client,
            b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nX-Forwarded-For: 10.1.1.1, 10.0.0.1\r\n\r\nabc",
        ),
        (
            Service,
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n\
              5\r\nhello\r\n1a ; name=value\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: 1\r\n\r\n",
        ),
        (Client, b"PUT /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n00A\n0123456789\n0\n\n"),
        (Service, b"HTTP/1.1 200 Fine\n\nuntil"),
        (Service, b" the end"),
    ];
    let expected = [
        "0 POST HTTP/1.1 for 10.1.1.1",
        "0 answered",
        "0 201 Created",
        "0 ended 3/31",
        "0 PUT HTTP/1.1",
        "0 answered",
        "0 200 Fine",
        "0 ended 10/13",
        "end",
    ];
    assert_eq!(timeless(seen(Watch::Auto, said)), expected);
    assert_cuts_do_not_matter(said);
}

#[test]
fn answers_without_bodies_are_known_by_status_and_method() {
    let said: Conversation<'_> = &[
        (Client, b"HEAD / HTTP/1.0\r\n\r\n"),
        (Service, b"HTTP/1.0 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (Client, b"GET /1 HTTP/1.1\r\n\r\n"),
        (
            Service,
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
        ),
        (Client, b"GET /2 HTTP/1.1\r\n\r\n"),
        (Service, b"HTTP/1.1 204 No Content\r\n\r\n"),
        (Client, b"GET /3 HTTP/1.1\r\n\r\n"),
        (Service, b"HTTP/1.1 205 \r\n\r\n"),
        (Client, b"GET /4 HTTP/1.1\r\n\r\n"),
        (Service, OK),
    ];
    let expected = [
        "0 HEAD HTTP/1.0",
        "0 answered",
        "0 200 OK",
        "0 ended 0/0",
        "0 GET HTTP/1.1",
        "0 answered",
        "0 304 Not Modified",
        "0 ended 0/0",
        "0 GET HTTP/1.1",
        "0 answered",
        "0 204 No Content",
        "0 ended 0/0",
        "0 GET HTTP/1.1",
        "0 answered",
        "0 205",
        "0 ended 0/0",
        "0 GET HTTP/1.1",
        "0 answered",
        "0 200 OK",
        "0 ended 0/5",
        "end",
    ];
    assert_eq!(timeless(seen(Watch::Auto, said)), expected);
    assert_cuts_do_not_matter(said);
}

#[test]
fn requests_may_be_sent_ahead_of_answers() {
    let two = [GET, b"\r\nDELETE /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"].concat();
    let answers = [OK, b"HTTP/1.1 500 Oh no\r\nContent-Length: 1\r\n\r\n!"].concat();
    let said: Conversation<'_> = &[(Client, &two), (Service, &answers)];
    let expected = [
        "0 GET HTTP/1.1",
        "1 DELETE HTTP/1.1",
        "0 answered",
        "0 200 OK",
        "0 ended 0/5",
        "1 answered",
        "1 500 Oh no",
        "1 ended 0/1",
        "end",
    ];
    assert_eq!(timeless(seen(Watch::Auto, said)), expected);
    assert_cuts_do_not_matter(said);
}

#[test]
fn an_answer_may_begin_before_the_request_has_ended() {
    let said: Conversation<'_> = &[
        (
            Client,
            b"POST / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        ),
        (Service, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (Client, b"ab"),
        (
            Service,
            b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno",
        ),
        (Client, b"cd"),
    ];
    let expected = [
        "0 POST HTTP/1.1",
        "0 answered after 1",
        "0 413 Content Too Large",
        "0 ended 4/2",
        "end",
    ];
    assert_eq!(seen(Watch::Auto, said), expected);
}

#[test]
fn what_is_switched_to_is_not_looked_at() {
    for (request, answer) in [
        (
            &b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"[..],
            &b"HTTP/1.1 101 Switching Protocols\r\n\r\n"[..],
        ),
        (
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 Switching Protocols\r\nContent-Length: 9\r\n\r\n",
        ),
    ] {
        let mut watched = Watched::new(Watch::Auto);
        watched.say(Client, request);
        watched.say(Service, answer);
        assert!(watched.observer.is_over());
        watched.say(Client, b"\x81\x05hello");
        let words = timeless(watched.seen);
        assert_eq!(words[1], "0 answered");
        assert!(words[2].ends_with(" Switching Protocols"), "{words:?}");
        assert_eq!(words[3..], ["0 ended 0/0"]);
    }
}

#[test]
fn a_connection_that_breaks_off_ends_what_was_asked() {
    let said: Conversation<'_> = &[
        (Client, b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n"),
        (
            Service,
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhell",
        ),
    ];
    let expected = [
        "0 GET HTTP/1.1",
        "1 GET HTTP/1.1",
        "0 answered",
        "0 200 OK",
        "end",
        "0 ended 0/4",
        "1 ended 0/0",
    ];
    assert_eq!(timeless(seen(Watch::Auto, said)), expected);
}

#[test]
fn what_cannot_be_followed_is_given_up() {
    let many = GET.repeat(101);
    let long = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; 32 * 1024]].concat();
    let fields = [
        b"GET / HTTP/1.1\r\n".as_slice(),
        &b"A: b\r\n".repeat(101),
        b"\r\n",
    ]
    .concat();
    let chunked: &[u8] = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let after = |rest: &[u8]| [chunked, rest].concat();
    for octets in [
        many.as_slice(),
        &long,
        &fields,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
        &after(b"\r\n"),
        &after(b"xyz\r\n"),
        &after(b"1234567890123456\r\n"),
        &after(b"1\r\nab"),
    ] {
        let mut watched = Watched::new(Watch::Auto);
        watched.say(Client, octets);
        let text = String::from_utf8_lossy(octets);
        assert!(
            watched.observer.is_over(),
            "{}",
            &text[..text.len().min(80)]
        );
    }
    for answer in [
        &b"HTTP/1.1 2000 OK\r\n\r\n"[..],
        b"200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let mut watched = Watched::new(Watch::Auto);
        watched.say(Client, GET);
        watched.say(Service, answer);
        assert!(watched.observer.is_over());
    }
}

/// A head that comes octet by octet is read once, and so takes no more time than its length.
#[test]
fn a_long_head_in_pieces_is_seen() {
    let mut watched = Watched::new(Watch::Auto);
    watched.say(Client, b"GET / HTTP/1.1\r\nA: ");
    for _ in 0..30 * 1024 {
        watched.say(Client, b"a");
    }
    assert!(!watched.observer.is_over());
    watched.say(Client, b"\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    assert_eq!(watched.seen, ["0 GET HTTP/1.1", "1 GET HTTP/1.1"]);
}

#[test]
fn bodies_need_not_be_seen() {
    let mut watched = Watched::new(Watch::Auto);
    assert_eq!(watched.observer.unseen(Client), 0);
    watched.say(
        Client,
        b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n\r\nab",
    );
    assert_eq!(watched.observer.unseen(Client), 99_997, "all but the last");
    assert_eq!(watched.observer.unseen(Service), 0);
    watched.observer.skip(Client, 99_997, watched.now);
    assert_eq!(watched.observer.unseen(Client), 0);
    watched.say(Client, b"z");
    watched.say(Service, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(watched.observer.unseen(Service), u64::MAX);
    watched.observer.skip(Service, 5, watched.now);
    watched.note();
    let seen = watched.end().join("; ");
    let expected = "0 POST HTTP/1.1; 0 answered after 2; 0 200 OK; 0 ended 100000/5; end";
    assert_eq!(seen, expected);
}

#[test]
fn what_passes_unseen_though_it_should_be_seen_ends_the_looking() {
    let mut watched = Watched::new(Watch::Auto);
    watched.say(Client, b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n");
    watched.observer.skip(Client, 9, watched.now);
    assert!(watched.observer.is_over());
}
