//! Header blocks of HTTP/2, as far as somebody wants to know them (HPACK, RFC 7541).
//!
//! Both ends of a connection keep a table of fields that were sent before. Of most fields only the
//! lengths are kept here, so that the table forgets when theirs does.

use std::collections::VecDeque;

use super::huffman;

/// The name of a field, if it is one that somebody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Method,
    Status,
    ForwardedFor,
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":status" => Self::Status,
            b"x-forwarded-for" => Self::ForwardedFor,
            _ => Self::Other,
        }
    }

    /// How much of a value is kept.
    fn keep(self) -> usize {
        match self {
            Self::Other => 0,
            Self::Method | Self::Status | Self::ForwardedFor => LONGEST_VALUE,
        }
    }
}

/// One direction's table, and what reads blocks with it.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest is in front.
    entries: VecDeque<Entry>,
    /// Octets that the standard counts for the entries, and may count at most.
    size: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    name_length: usize,
    value_length: usize,
    /// What is kept of the value.
    value: Box<[u8]>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: LIMIT_AT_FIRST,
        }
    }
}

impl Decoder {
    /// Reads a block, and calls `field` for each field that somebody wants to know, with as much of
    /// its value as is kept. `None`: it is malformed, and so is all that follows.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(Name, &[u8]),
    ) -> Option<()> {
        let mut input = block;
        while let Some(&first) = input.first() {
            match first {
                0x80.. => {
                    let index = integer(&mut input, 7)?;
                    let (name, _, value) = self.get(index)?;
                    if name != Name::Other {
                        field(name, value);
                    }
                }
                0x20..0x40 => self.resize(integer(&mut input, 5)?)?,
                _ => {
                    let remembered = first >= 0x40;
                    let index = integer(&mut input, if remembered { 6 } else { 4 })?;
                    let entry = self.literal(index, &mut input)?;
                    if entry.name != Name::Other {
                        field(entry.name, &entry.value);
                    }
                    if remembered {
                        self.insert(entry);
                    }
                }
            }
        }
        Some(())
    }

    /// A field whose value is in the block, and its name too if `index` is 0.
    fn literal(&self, index: usize, input: &mut &[u8]) -> Option<Entry> {
        let (name, name_length) = match index {
            0 => {
                let mut name = Vec::new();
                let length = string(input, LONGEST_NAME, &mut name)?;
                let known = (length == name.len()).then(|| Name::of(&name));
                (known.unwrap_or(Name::Other), length)
            }
            _ => {
                let (name, length, _) = self.get(index)?;
                (name, length)
            }
        };
        let mut value = Vec::new();
        let value_length = string(input, name.keep(), &mut value)?;
        Some(Entry {
            name,
            name_length,
            value_length,
            value: value.into(),
        })
    }

    /// The name of a field that was sent before, or that everybody knows, how many octets it has,
    /// and the value.
    fn get(&self, index: usize) -> Option<(Name, usize, &[u8])> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Some((Name::of(name.as_bytes()), name.len(), value.as_bytes()));
        }
        let entry = self.entries.get(index - STATIC.len())?;
        Some((entry.name, entry.name_length, &entry.value))
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size();
        self.entries.push_front(entry);
        self.evict();
    }

    fn resize(&mut self, limit: usize) -> Option<()> {
        self.limit = (limit <= LIMIT_MOST).then_some(limit)?;
        self.evict();
        Some(())
    }

    fn evict(&mut self) {
        while self.size > self.limit
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

impl Entry {
    /// What the standard counts for it (§4.1).
    fn size(&self) -> usize {
        self.name_length + self.value_length + 32
    }
}

/// An integer whose first octet has this many bits of it (§5.1).
fn integer(input: &mut &[u8], prefix: u32) -> Option<usize> {
    let (&first, mut rest) = input.split_first()?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21] {
            let (&octet, more) = rest.split_first()?;
            rest = more;
            value += usize::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                *input = rest;
                return Some(value);
            }
        }
        return None;
    }
    *input = rest;
    Some(value)
}

/// A string (§5.2): its first octets, up to `keep`, go to `kept`. Gives its length.
fn string(input: &mut &[u8], keep: usize, kept: &mut Vec<u8>) -> Option<usize> {
    let is_huffman = *input.first()? >= 0x80;
    let length = integer(input, 7)?;
    let (text, rest) = input.split_at_checked(length)?;
    *input = rest;
    if is_huffman {
        return huffman::decode(text, keep, kept);
    }
    kept.extend_from_slice(&text[..length.min(keep)]);
    Some(length)
}

/// Octets of the longest name that somebody wants to know.
const LONGEST_NAME: usize = 15;
/// Octets of a value that are kept.
const LONGEST_VALUE: usize = 300;
/// Octets of the table until its sender says otherwise (RFC 9113 §6.5.2).
const LIMIT_AT_FIRST: usize = 4096;
/// Octets that are followed: whoever has agreed on more is not.
const LIMIT_MOST: usize = 65_536;

/// Fields that everybody knows (appendix A).
#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| octet(pair).unwrap()).collect()
    }

    fn decoded(decoder: &mut Decoder, hex: &str) -> Option<Vec<(Name, String)>> {
        let mut fields = Vec::new();
        decoder.decode(&octets(hex), |name, value| {
            fields.push((name, String::from_utf8(value.to_vec()).unwrap()));
        })?;
        Some(fields)
    }

    fn status(text: &str) -> Option<Vec<(Name, String)>> {
        Some(vec![(Name::Status, text.to_owned())])
    }

    /// RFC 7541, appendix C.3 and C.4: three requests, without and with the Huffman code.
    #[test]
    fn requests_of_the_standard_are_read() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::default();
            for (block, size) in blocks.into_iter().zip([57, 110, 164]) {
                let fields = decoded(&mut decoder, block).unwrap();
                assert_eq!(fields, [(Name::Method, "GET".to_owned())]);
                assert_eq!(decoder.size, size);
            }
        }
    }

    /// RFC 7541, appendix C.5 and C.6: three responses with a table of 256 octets, which forgets.
    #[test]
    fn responses_of_the_standard_are_read() {
        let plain = [
            "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 \
             3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 \
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 \
             5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 \
             5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ];
        let huffman = [
            "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 \
             82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad \
             94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 \
             65c0 03ed 4ee5 b106 3d50 07",
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::default();
            let expected = ["302", "307", "200"].map(status);
            for ((block, status), size) in blocks.into_iter().zip(expected).zip([222, 222, 215]) {
                assert_eq!(decoded(&mut decoder, block), status);
                assert_eq!(decoder.size, size);
            }
        }
    }

    #[test]
    fn a_name_that_is_wanted_is_known_by_its_number_later() {
        let mut decoder = Decoder::default();
        let name = b"x-forwarded-for";
        let mut block = vec![0x40, name.len() as u8];
        block.extend_from_slice(name);
        block.extend_from_slice(b"\x0210");
        // The name again, with another value, which is not remembered; then all of the first.
        block.extend_from_slice(b"\x0f\x2f\x0211\xbe");
        let mut values = Vec::new();
        let mut keep = |name, value: &[u8]| {
            assert_eq!(name, Name::ForwardedFor);
            values.push(value.to_vec());
        };
        decoder.decode(&block, &mut keep).unwrap();
        assert_eq!(values, [b"10", b"11", b"10"]);
        assert_eq!(decoder.size, 32 + 15 + 2);
    }

    #[test]
    fn the_table_stays_within_its_limit() {
        let mut decoder = Decoder::default();
        for _ in 0..10_000 {
            decoded(&mut decoder, "4001610162").unwrap();
        }
        assert_eq!((decoder.entries.len(), decoder.size), (120, 4080));
        // A field that is larger than the table empties it.
        let mut large = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1f];
        large.resize(large.len() + 127 + 0x21 + (0x1f << 7), b'b');
        decoder.decode(&large, |_, _| {}).unwrap();
        assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for block in [
            "80",           // the field of number 0
            "be",           // there is none
            "ff",           // a number without an end
            "ffffffffff7f", // too long a number
            "3fe2ff03",     // a table of 65,537 octets
            "40",           // a name without a length
            "400361",       // a name without an end
            "4001ff",       // a value without an end
            "0f80808080",
        ] {
            assert_eq!(decoded(&mut Decoder::default(), block), None, "{block}");
        }
        assert!(decoded(&mut Decoder::default(), "3fe1ff03").is_some());
    }
}
