//! Values as AMQP writes them (AMQP 1.6), as many as a liar needs.

pub(crate) fn null() -> Vec<u8> {
    vec![0x40]
}

pub(crate) fn uint(n: u32) -> Vec<u8> {
    [&[0x70][..], &n.to_be_bytes()].concat()
}

pub(crate) fn int(n: i32) -> Vec<u8> {
    [&[0x71][..], &n.to_be_bytes()].concat()
}

pub(crate) fn long(n: i64) -> Vec<u8> {
    [&[0x81][..], &n.to_be_bytes()].concat()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    variable(0xb1, text.as_bytes())
}

pub(crate) fn symbol(text: &str) -> Vec<u8> {
    variable(0xb3, text.as_bytes())
}

pub(crate) fn list(values: &[Vec<u8>]) -> Vec<u8> {
    compound(0xd0, values.len(), &values.concat())
}

pub(crate) fn map(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let values: Vec<_> = pairs
        .iter()
        .flat_map(|(key, value)| [&key[..], value])
        .collect();
    compound(0xd1, values.len(), &values.concat())
}

pub(crate) fn described(code: u8, value: Vec<u8>) -> Vec<u8> {
    [vec![0, 0x53, code], value].concat()
}

fn variable(code: u8, octets: &[u8]) -> Vec<u8> {
    [&[code][..], &length(octets.len()), octets].concat()
}

fn compound(code: u8, count: usize, octets: &[u8]) -> Vec<u8> {
    [
        &[code][..],
        &length(octets.len() + 4),
        &length(count),
        octets,
    ]
    .concat()
}

fn length(octets: usize) -> [u8; 4] {
    let octets = u32::try_from(octets).expect("values here are small");
    octets.to_be_bytes()
}

/// The code of a performative, and its fields as far as they are numbers.
pub(crate) fn numbers(frame: &[u8]) -> Option<(u8, Vec<Option<u64>>)> {
    let [0, 0x53, code, list @ ..] = frame else {
        return None;
    };
    let mut fields = match list {
        [0xc0, _, _, fields @ ..] | [0xd0, _, _, _, _, _, _, _, _, fields @ ..] => fields,
        _ => return Some((*code, Vec::new())),
    };
    let mut found = Vec::new();
    while found.len() < 7
        && let Some((number, rest)) = number(fields)
    {
        found.push(number);
        fields = rest;
    }
    Some((*code, found))
}

/// The number at the start, if the value there is one, and what follows it.
fn number(octets: &[u8]) -> Option<(Option<u64>, &[u8])> {
    let (code, rest) = octets.split_first()?;
    let width = match code >> 4 {
        // A descriptor and its value.
        0 => return number(number(rest)?.1).map(|(_, rest)| (None, rest)),
        4 => 0,
        5 => 1,
        6 => 2,
        7 => 4,
        8 => 8,
        9 => 16,
        0xa | 0xc | 0xe => 1 + usize::from(*rest.first()?),
        _ => 4 + u32::from_be_bytes(*rest.first_chunk()?) as usize,
    };
    let value = rest.get(..width)?;
    let number = match code {
        0x41 => Some(1),
        0x42..=0x44 => Some(0),
        0x50..=0x7f => {
            let octets = value.iter().map(|octet| u64::from(*octet));
            Some(octets.fold(0, |number, octet| number << 8 | octet))
        }
        _ => None,
    };
    Some((number, &rest[width..]))
}
