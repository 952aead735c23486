//! AMQP octet by octet, for peers that do what no client does.

/// The header of AMQP without SASL.
pub const AMQP: &[u8] = b"AMQP\x00\x01\x00\x00";
/// The header of SASL.
pub const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";
/// An end.
pub const END: &[u8] = &[0, 0x53, 0x17, 0x45];

/// A header, an open, and these frames.
pub fn opened(frames: &[&[u8]]) -> Vec<u8> {
    [AMQP.to_vec(), open(), frames.concat()].concat()
}

/// An AMQP frame.
pub fn frame(channel: u16, body: &[u8]) -> Vec<u8> {
    framed(0, channel, body)
}

/// A SASL frame.
pub fn sasl(body: &[u8]) -> Vec<u8> {
    framed(1, 0, body)
}

/// A SASL init with a mechanism and a response.
pub fn sasl_init(mechanism: &str, response: &[u8]) -> Vec<u8> {
    let fields = [
        &short(0xa3, mechanism.as_bytes())[..],
        &short(0xa0, response),
    ]
    .concat();
    sasl(&list(0x41, 2, &fields))
}

/// An open of the container `x`.
pub fn open() -> Vec<u8> {
    frame(0, &list(0x10, 1, &short(0xa1, b"x")))
}

/// A begin.
pub fn begin(channel: u16) -> Vec<u8> {
    frame(
        channel,
        &[0, 0x53, 0x11, 0xc0, 7, 4, 0x40, 0x43, 0x52, 255, 0x52, 255],
    )
}

/// A sender with this handle, and a name and a target of its own.
pub fn attach(handle: u16) -> Vec<u8> {
    let name = name_of(handle);
    attach_sender(handle, Some(&name))
}

/// A sender to an address, or an anonymous one.
pub fn attach_sender(handle: u16, target: Option<&str>) -> Vec<u8> {
    let source = list(0x28, 0, &[]);
    attach_of(handle, false, &source, &terminus(0x29, target))
}

/// A receiver from an address.
pub fn attach_receiver(handle: u16, source: &str) -> Vec<u8> {
    let target = list(0x29, 0, &[]);
    attach_of(handle, true, &terminus(0x28, Some(source)), &target)
}

/// A receiver from an address that the router is to make.
pub fn attach_dynamic(handle: u16) -> Vec<u8> {
    let source = list(0x28, 5, &[0x40, 0x40, 0x40, 0x40, 0x41]);
    attach_of(handle, true, &source, &list(0x29, 0, &[]))
}

/// A sender to the coordinator of transactions (AMQP 4.2).
pub fn attach_coordinator(handle: u16) -> Vec<u8> {
    attach_of(handle, false, &list(0x28, 0, &[]), &list(0x30, 0, &[]))
}

/// A sender to an address of any length.
pub fn attach_long(handle: u16, target: &str) -> Vec<u8> {
    let address = [&[0xb1][..], &length(target.len()), target.as_bytes()].concat();
    let target = [&[0, 0x53, 0x29][..], &wide_list(1, &address)].concat();
    let fields = attach_fields(handle, false, &list(0x28, 0, &[]), &target);
    frame(0, &[&[0, 0x53, 0x12][..], &wide_list(10, &fields)].concat())
}

/// A transfer of 200 octets that is the first delivery of its session.
pub fn transfer(handle: u8, more: bool) -> Vec<u8> {
    transfer_of(handle, 0, false, more, &message(None, None, 200))
}

/// A transfer that begins a delivery.
pub fn transfer_of(handle: u8, id: u8, settled: bool, more: bool, payload: &[u8]) -> Vec<u8> {
    let flag = |set| if set { 0x41 } else { 0x42 };
    let fields = [
        &[0x52, handle, 0x52, id][..],
        &short(0xa0, &[id]),
        &[0x43, flag(settled), flag(more)],
    ]
    .concat();
    frame(0, &[&list(0x14, 6, &fields)[..], payload].concat())
}

/// A message of a user to an address, with a body of so many octets, 255 at most.
pub fn message(user: Option<&str>, to: Option<&str>, octets: u8) -> Vec<u8> {
    let field = |code, text: Option<&str>| match text {
        Some(text) => short(code, text.as_bytes()),
        None => vec![0x40],
    };
    let fields = [&[0x40][..], &field(0xa0, user), &field(0xa1, to)].concat();
    let body = [&[0, 0x53, 0x75, 0xa0, octets][..], &vec![0; octets.into()]].concat();
    match (user, to) {
        (None, None) => body,
        _ => [list(0x73, 3, &fields), body].concat(),
    }
}

fn framed(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).expect("frames here are small");
    [
        &size.to_be_bytes()[..],
        &[2, kind],
        &channel.to_be_bytes(),
        body,
    ]
    .concat()
}

fn attach_of(handle: u16, receiver: bool, source: &[u8], target: &[u8]) -> Vec<u8> {
    let fields = attach_fields(handle, receiver, source, target);
    frame(0, &list(0x12, 10, &fields))
}

fn attach_fields(handle: u16, receiver: bool, source: &[u8], target: &[u8]) -> Vec<u8> {
    let [high, low] = handle.to_be_bytes();
    let role = if receiver { 0x41 } else { 0x42 };
    [
        &short(0xa1, name_of(handle).as_bytes())[..],
        &[0x70, 0, 0, high, low, role, 0x40, 0x40],
        source,
        target,
        &[0x40, 0x40, 0x43],
    ]
    .concat()
}

fn terminus(code: u8, address: Option<&str>) -> Vec<u8> {
    match address {
        Some(address) => list(code, 1, &short(0xa1, address.as_bytes())),
        None => list(code, 0, &[]),
    }
}

fn name_of(handle: u16) -> String {
    let letter = |nibble: u16| char::from(b'a' + (nibble & 15) as u8);
    [12, 8, 4, 0]
        .map(|bits| letter(handle >> bits))
        .iter()
        .collect()
}

/// A described list of so many fields.
fn list(code: u8, count: u8, fields: &[u8]) -> Vec<u8> {
    let size = u8::try_from(fields.len() + 1).expect("lists here are small");
    [&[0, 0x53, code, 0xc0, size, count][..], fields].concat()
}

/// A list of so many fields, without a descriptor, of any length.
fn wide_list(count: u32, fields: &[u8]) -> Vec<u8> {
    [
        &[0xd0][..],
        &length(fields.len() + 4),
        &count.to_be_bytes(),
        fields,
    ]
    .concat()
}

fn length(octets: usize) -> [u8; 4] {
    let octets = u32::try_from(octets).expect("values here are small");
    octets.to_be_bytes()
}

/// A value of at most 255 octets.
fn short(code: u8, octets: &[u8]) -> Vec<u8> {
    let size = u8::try_from(octets.len()).expect("values here are small");
    [&[code, size][..], octets].concat()
}
