//! The few AMQP 1.0 frames a load generator needs, written apart from the router's own codec on
//! purpose: a bug shared by both would go unseen.

pub mod decode;
pub mod encode;
pub mod template;

/// Protocol header of a bare AMQP connection (AMQP 2.2).
pub const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
/// Protocol header of the SASL layer (AMQP 5.3.1).
pub const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// Octets before the body of a frame without extended header (AMQP 2.3.1).
pub const FRAME_HEADER: usize = 8;
/// The largest frame either side may send before it knows the other's limit (AMQP 2.3.1).
pub const MIN_MAX_FRAME_SIZE: u32 = 512;

/// Descriptor codes of performatives, SASL frames, delivery states and sections.
pub(crate) mod code {
    pub(crate) const OPEN: u8 = 0x10;
    pub(crate) const BEGIN: u8 = 0x11;
    pub(crate) const ATTACH: u8 = 0x12;
    pub(crate) const FLOW: u8 = 0x13;
    pub(crate) const TRANSFER: u8 = 0x14;
    pub(crate) const DISPOSITION: u8 = 0x15;
    pub(crate) const DETACH: u8 = 0x16;
    pub(crate) const END: u8 = 0x17;
    pub(crate) const CLOSE: u8 = 0x18;
    pub(crate) const ERROR: u8 = 0x1d;
    pub(crate) const RECEIVED: u8 = 0x23;
    pub(crate) const ACCEPTED: u8 = 0x24;
    pub(crate) const REJECTED: u8 = 0x25;
    pub(crate) const RELEASED: u8 = 0x26;
    pub(crate) const MODIFIED: u8 = 0x27;
    pub(crate) const SOURCE: u8 = 0x28;
    pub(crate) const TARGET: u8 = 0x29;
    pub(crate) const SASL_MECHANISMS: u8 = 0x40;
    pub(crate) const SASL_INIT: u8 = 0x41;
    pub(crate) const SASL_OUTCOME: u8 = 0x44;
    pub(crate) const DATA: u8 = 0x75;
}
