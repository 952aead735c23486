//! A group of a vhost: who is in it and what they may do (`vhostUserGroupSettings`).

use super::hosts::Hosts;
use super::names::Names;
use crate::codec::Value;

/// The settings of one group. Limits that are absent are those of the vhost or the listener.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) users: Vec<String>,
    /// Subjects and alternative names of certificates; a `*` at the end stands for anything.
    pub(crate) certificates: Vec<String>,
    /// Ids of routers.
    pub(crate) neighbors: Vec<String>,
    pub(crate) remote_hosts: Vec<Hosts>,
    pub(crate) max_connections_per_user: Option<usize>,
    pub(crate) max_connections_per_host: Option<usize>,
    /// Bytes.
    pub(crate) max_frame_size: Option<u32>,
    /// Bytes.
    pub(crate) max_message_size: Option<u64>,
    /// Bytes.
    pub(crate) max_session_window: Option<u32>,
    pub(crate) max_sessions: Option<u16>,
    pub(crate) max_senders: Option<u32>,
    pub(crate) max_receivers: Option<u32>,
    pub(crate) allow_dynamic_source: bool,
    pub(crate) allow_anonymous_sender: bool,
    pub(crate) allow_user_id_proxy: bool,
    pub(crate) allow_admin_status_update: bool,
    /// A router may speak for others, to which it leads.
    pub(crate) allow_transit: bool,
    pub(crate) sources: Names,
    pub(crate) targets: Names,
    /// Settings that no group has. They count for nothing.
    pub(crate) unknown: Vec<String>,
}

impl Group {
    /// Reads the settings of a group: a map of names and values as the configuration has them.
    ///
    /// # Errors
    /// An attribute that has a value that it cannot have, by name.
    pub(crate) fn read(settings: &[(Value, Value)]) -> Result<Self, String> {
        let mut group = Self::default();
        let has = |name: &str| settings.iter().any(|(key, _)| key.as_str() == Some(name));
        for (one, other) in [("sources", "sourcePattern"), ("targets", "targetPattern")] {
            if has(one) && has(other) {
                return Err(format!("'{one}' and '{other}' exclude each other"));
            }
        }
        for (key, value) in settings {
            let key = key.as_str().ok_or("a name of an attribute is no string")?;
            let known = group
                .set(key, value)
                .map_err(|problem| format!("'{key}': {problem}"))?;
            if !known {
                group.unknown.push(key.to_owned());
            }
        }
        Ok(group)
    }

    /// False if there is no such attribute.
    fn set(&mut self, key: &str, value: &Value) -> Result<bool, String> {
        if !GROUP_SETTINGS.contains(&key) {
            return Ok(false);
        }
        match key {
            "users" => self.users = words(value)?,
            "certificates" => self.certificates = words(value)?,
            "neighbors" => self.neighbors = words(value)?,
            "remoteHosts" => {
                let hosts = words(value)?;
                let hosts = hosts.iter().map(|text| Hosts::parse(text));
                self.remote_hosts = hosts.collect::<Result<_, _>>()?;
            }
            "maxConnectionsPerUser" => self.max_connections_per_user = Some(connections(value)?),
            "maxConnectionsPerHost" => self.max_connections_per_host = Some(connections(value)?),
            "maxFrameSize" => {
                self.max_frame_size = positive(value)?.map(|size: u32| size.max(MIN_FRAME_SIZE));
            }
            "maxMessageSize" => self.max_message_size = Some(number(value)?),
            "maxSessionWindow" => self.max_session_window = positive(value)?,
            "maxSessions" => {
                let most: Option<u32> = positive(value)?;
                self.max_sessions = most.map(|most| u16::try_from(most).unwrap_or(u16::MAX));
            }
            "maxSenders" => self.max_senders = positive(value)?,
            "maxReceivers" => self.max_receivers = positive(value)?,
            "allowDynamicSource" => self.allow_dynamic_source = flag(value)?,
            "allowAnonymousSender" => self.allow_anonymous_sender = flag(value)?,
            "allowUserIdProxy" => self.allow_user_id_proxy = flag(value)?,
            "allowAdminStatusUpdate" => self.allow_admin_status_update = flag(value)?,
            "allowTransit" => self.allow_transit = flag(value)?,
            "sources" => self.sources = Names::list(words(value)?.iter().map(String::as_str))?,
            "targets" => self.targets = Names::list(words(value)?.iter().map(String::as_str))?,
            "sourcePattern" => {
                self.sources = Names::patterns(words(value)?.iter().map(String::as_str))?;
            }
            "targetPattern" => {
                self.targets = Names::patterns(words(value)?.iter().map(String::as_str))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Default for Group {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            certificates: Vec::new(),
            neighbors: Vec::new(),
            remote_hosts: Vec::new(),
            max_connections_per_user: None,
            max_connections_per_host: None,
            max_frame_size: None,
            max_message_size: None,
            max_session_window: None,
            max_sessions: None,
            max_senders: None,
            max_receivers: None,
            allow_dynamic_source: false,
            allow_anonymous_sender: false,
            allow_user_id_proxy: false,
            allow_admin_status_update: true,
            allow_transit: false,
            sources: Names::none(),
            targets: Names::none(),
            unknown: Vec::new(),
        }
    }
}

/// A list, or text with commas.
pub(super) fn words(value: &Value) -> Result<Vec<String>, String> {
    let clean = |word: &str| (!word.trim().is_empty()).then(|| word.trim().to_owned());
    match (value.as_str(), value.as_list()) {
        (Some(text), _) => Ok(text.split(',').filter_map(clean).collect()),
        (None, Some(list)) => {
            let words = list
                .iter()
                .map(Value::as_str)
                .collect::<Option<Vec<&str>>>();
            let words = words.ok_or("must be a list of strings")?;
            Ok(words.into_iter().filter_map(clean).collect())
        }
        (None, None) => Err("must be text, or a list of strings".into()),
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    match (value.as_bool(), value.as_str()) {
        (Some(flag), _) => Ok(flag),
        (None, Some("true" | "True" | "yes")) => Ok(true),
        (None, Some("false" | "False" | "no")) => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

fn number(value: &Value) -> Result<u64, String> {
    let number = value
        .as_i64()
        .or_else(|| value.as_u64().and_then(|n| i64::try_from(n).ok()))
        .or_else(|| value.as_str()?.trim().parse().ok());
    number
        .and_then(|number| u64::try_from(number).ok())
        .ok_or_else(|| "must be a number, 0 or more".into())
}

/// 0 is no limit, and a limit beyond what can be is the largest that can.
fn positive(value: &Value) -> Result<Option<u32>, String> {
    let number = number(value)?;
    Ok((number > 0).then(|| u32::try_from(number).unwrap_or(u32::MAX)))
}

fn connections(value: &Value) -> Result<usize, String> {
    match number(value)? {
        many @ 0..=65_535 => Ok(many as usize),
        many => Err(format!("{many} is more than 65535")),
    }
}

/// The attributes of a group.
pub(crate) const GROUP_SETTINGS: &[&str] = &[
    "users",
    "certificates",
    "neighbors",
    "remoteHosts",
    "maxConnectionsPerUser",
    "maxConnectionsPerHost",
    "maxFrameSize",
    "maxMessageSize",
    "maxSessionWindow",
    "maxSessions",
    "maxSenders",
    "maxReceivers",
    "allowDynamicSource",
    "allowAnonymousSender",
    "allowUserIdProxy",
    "allowAdminStatusUpdate",
    "allowTransit",
    "sources",
    "targets",
    "sourcePattern",
    "targetPattern",
];

/// What AMQP 2.7.1 has every peer take.
const MIN_FRAME_SIZE: u32 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_reads_each_of_its_settings_and_passes_over_others() {
        for setting in GROUP_SETTINGS {
            let read = Group::default().set(setting, &"nothing that they can all be".into());
            assert_ne!(read, Ok(false), "{setting}");
        }
        let settings = [
            ("allowDynamicSrc".into(), true.into()),
            ("maxSenders".into(), Value::Long(7)),
        ];
        let group = Group::read(&settings).unwrap();
        assert_eq!(group.unknown, ["allowDynamicSrc"]);
        assert_eq!(group.max_senders, Some(7));
    }
}
