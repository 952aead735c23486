//! HPACK's Huffman code (RFC 7541 §5.2 and appendix B).

/// Decodes a string; the first octets of it go to `kept` until that holds `keep`. Gives how many
/// octets the string has. `None`: it is not of this code.
pub(super) fn decode(encoded: &[u8], keep: usize, kept: &mut Vec<u8>) -> Option<usize> {
    let mut input = encoded.iter();
    // The next bits, from the top.
    let (mut window, mut bits) = (0u64, 0u32);
    let mut length = 0;
    loop {
        while bits <= 56
            && let Some(&octet) = input.next()
        {
            window |= u64::from(octet) << (56 - bits);
            bits += 8;
        }
        // What is missing at the end is as if it were padding.
        let padded = match bits {
            ..LONGEST => window | (u64::MAX >> bits),
            _ => window,
        };
        let next = (padded >> (64 - LONGEST)) as u32;
        let code = CODES.iter().find(|code| next < code.limit)?;
        if code.bits > bits {
            // Less than an octet of ones may be left.
            return (bits < 8 && next == MASK).then_some(length);
        }
        let index = (next - code.first) >> (LONGEST - code.bits);
        let symbol = SYMBOLS[code.index + index as usize];
        let octet = u8::try_from(symbol).ok()?; // the last symbol ends a string, and is not used
        if kept.len() < keep {
            kept.push(octet);
        }
        length += 1;
        window <<= code.bits;
        bits -= code.bits;
    }
}

/// The codes of one length. The code is canonical: codes of one length follow each other, in the
/// order of their symbols, and after those that are shorter.
#[derive(Clone, Copy)]
struct Codes {
    bits: u32,
    /// The first of them, as the top of [`LONGEST`] bits.
    first: u32,
    /// What is above all of them, likewise.
    limit: u32,
    /// Where the symbol of the first is among [`SYMBOLS`].
    index: usize,
}

const LONGEST: u32 = 30;
/// The longest code, which is all ones.
const MASK: u32 = (1 << LONGEST) - 1;
const LENGTHS_USED: usize = 21;

static CODES: [Codes; LENGTHS_USED] = TABLES.0;
/// By the lengths of their codes.
static SYMBOLS: [u16; 257] = TABLES.1;

const TABLES: ([Codes; LENGTHS_USED], [u16; 257]) = {
    let none = Codes {
        bits: 0,
        first: 0,
        limit: 0,
        index: 0,
    };
    let (mut codes, mut used) = ([none; LENGTHS_USED], 0);
    let (mut symbols, mut sorted) = ([0; 257], 0);
    let mut next: u32 = 0;
    let mut bits = 1;
    while bits <= LONGEST {
        let (first, index) = (next, sorted);
        let mut symbol = 0;
        while symbol < 257 {
            if BITS[symbol] as u32 == bits {
                symbols[sorted] = symbol as u16;
                sorted += 1;
                next += 1 << (LONGEST - bits);
            }
            symbol += 1;
        }
        if sorted > index {
            codes[used] = Codes {
                bits,
                first,
                limit: next,
                index,
            };
            used += 1;
        }
        bits += 1;
    }
    (codes, symbols)
};

/// How many bits the code of each octet has, and that of the end.
#[rustfmt::skip]
const BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Encodes a string, as the tests of what decodes it need.
    pub(in crate::observers) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits: Vec<bool> = Vec::new();
        for &octet in text {
            let at = SYMBOLS.iter().position(|s| *s == u16::from(octet)).unwrap();
            let code = CODES.iter().rev().find(|code| code.index <= at).unwrap();
            let value = (code.first >> (LONGEST - code.bits)) + (at - code.index) as u32;
            bits.extend((0..code.bits).rev().map(|bit| value >> bit & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        let octet = |bits: &[bool]| {
            bits.iter()
                .fold(0, |octet, bit| octet << 1 | u8::from(*bit))
        };
        bits.chunks(8).map(octet).collect()
    }

    fn decoded(encoded: &[u8]) -> Option<Vec<u8>> {
        let mut kept = Vec::new();
        let length = decode(encoded, usize::MAX, &mut kept)?;
        assert_eq!(length, kept.len());
        Some(kept)
    }

    /// RFC 7541, appendix C.4 and C.6.
    #[test]
    fn strings_of_the_standard_are_read() {
        let vectors: [(&[u8], &str); 4] = [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
        ];
        for (encoded, text) in vectors {
            assert_eq!(decoded(encoded).as_deref(), Some(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn every_octet_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), Some(all));
        assert_eq!(decoded(&[]), Some(Vec::new()));
    }

    #[test]
    fn only_as_much_is_kept_as_is_wanted() {
        let mut kept = b"a".to_vec();
        assert_eq!(decode(&encode(b"bcdef"), 3, &mut kept), Some(5));
        assert_eq!(kept, b"abc");
    }

    #[test]
    fn what_is_not_of_the_code_is_refused() {
        assert_eq!(decoded(&[0xff]), None, "an octet of padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end");
        assert_eq!(decoded(&[0x00]), None, "padding that is not of ones");
    }
}
