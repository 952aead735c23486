use crate::codec::Error;

/// Detaches a link, and destroys it when `closed` (AMQP 2.7.7).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detach {
    pub handle: u32,
    pub closed: bool,
    pub error: Option<Error>,
}

/// Ends a session (AMQP 2.7.8).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    pub error: Option<Error>,
}

/// Closes the connection (AMQP 2.7.9).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Close {
    pub error: Option<Error>,
}
