//! Arguments that several actions, probes and settings have.

use std::time::Duration;

use crate::diagnostics::{Fields, Node, Reader};
use crate::units::Name;

pub(super) fn duration(reader: &mut Reader, node: Option<&Node>, otherwise: Duration) -> Duration {
    let Some(node) = node else { return otherwise };
    let Some(text) = reader.scalar::<String>(node, "duration") else {
        return otherwise;
    };
    let parsed = text
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok());
    if parsed.is_none() {
        reader.bad_value(
            node,
            &text,
            "duration",
            &"it is written like 90s, 5m or 1h30m",
        );
    }
    parsed.unwrap_or(otherwise)
}

/// Reads a share like `10%`, where it is given.
pub(super) fn percent(
    fields: &mut Fields<'_>,
    key: &'static str,
    reader: &mut Reader,
) -> Option<f64> {
    let node = fields.optional(key)?;
    let text: String = reader.scalar(node, "share")?;
    let share: Option<f64> = text.strip_suffix('%').and_then(|text| text.parse().ok());
    let share = share.filter(|share| (0.0..=100.0).contains(share));
    if share.is_none() {
        reader.bad_value(node, &text, "share", &"it is written like 10%");
    }
    share
}

/// Reads a key that names a network.
pub(super) fn network_of(
    fields: &mut Fields<'_>,
    key: &'static str,
    reader: &mut Reader,
) -> Option<String> {
    fields
        .required(key, reader)
        .and_then(|node| reader.scalar::<Name>(node, "network's name"))
        .map(|name| name.to_string())
}

/// Reads the key `host`.
pub(super) fn host_of(fields: &mut Fields<'_>, reader: &mut Reader) -> Option<String> {
    fields
        .required("host", reader)
        .and_then(|node| reader.scalar::<Name>(node, "host name"))
        .map(|name| name.to_string())
}
