//! From a request target to a mount and the resource below it.

use std::sync::Arc;

use chunk_core::CacheKey;
use chunk_manager::Hints;
use chunk_ports::{Resource, Secret};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};

use crate::config::Mount;
use crate::told::{self, BadRate};

/// Why a target leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// 404: no origin is mounted there.
    Unknown,
    /// 400: the target is no path.
    Malformed,
    /// 400: the switch for the rate tells none.
    Rate(BadRate),
}

/// Where a target leads.
#[derive(Debug)]
pub(crate) struct Routed<'a> {
    pub(crate) mount: &'a Mount,
    pub(crate) resource: Resource,
    /// What the client says of how it is going to read.
    pub(crate) hints: Hints,
}

/// Finds the mount of a target and names the resource.
///
/// What the origin is asked for is the normalised path, so that no spelling of `..` leads out of the
/// folder its base URL names; the query goes as it came, because it may be signed, but for what is meant for us.
pub(crate) fn resolve<'a>(
    mounts: &'a [Mount],
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Routed<'a>, NoRoute> {
    let target = uri.path_and_query().ok_or(NoRoute::Malformed)?.as_str();
    let target = escape_non_ascii(target);
    let (mount, below) = match mounts {
        [only] if only.name().is_empty() => (only, target),
        named => {
            let (name, below) = split_name(&target)?;
            let mount = named.iter().find(|mount| mount.name() == name);
            (mount.ok_or(NoRoute::Unknown)?, below)
        }
    };
    let (below, rate) = told::take_rate(below).map_err(NoRoute::Rate)?;
    let mut key = CacheKey::new(mount.name(), &below, mount.signature_parameters())
        .map_err(|_| NoRoute::Malformed)?;
    let asked = match below.split_once('?') {
        Some((_, query)) => format!("{}?{query}", key.path()),
        None => key.path().to_owned(),
    };
    key = mount.hide(key);
    let credentials = mount.partition().zip(
        headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()),
    );
    if let Some((partition, value)) = credentials {
        key = key.with_partition(&partition.hash("", value));
    }
    let mut resource = Resource::new(Arc::new(key), Secret::new(asked));
    if let Some((_, value)) = credentials {
        resource = resource.with_authorization(Secret::new(value));
    }
    let hints = Hints::default()
        .with_rate(rate)
        .with_yielding(told::is_background(headers));
    Ok(Routed {
        mount,
        resource,
        hints,
    })
}

/// Percent-encodes what is not ASCII, so that a name has one key however a player wrote it.
fn escape_non_ascii(target: &str) -> String {
    let mut escaped = String::with_capacity(target.len());
    for character in target.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                push_hex(&mut escaped, "%", byte);
            }
        }
    }
    escaped
}

/// Appends `prefix` and two hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, prefix: &str, byte: u8) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    text.push_str(prefix);
    text.push(DIGITS[usize::from(byte >> 4)]);
    text.push(DIGITS[usize::from(byte & 15)]);
}

/// `/NAME/rest` in its two parts.
fn split_name(target: &str) -> Result<(&str, String), NoRoute> {
    let rest = target.strip_prefix('/').ok_or(NoRoute::Malformed)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (name, below) = rest.split_at(end);
    let slash = if below.starts_with('/') { "" } else { "/" };
    Ok((name, format!("{slash}{below}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::PartitionKey;

    fn resource(mounts: &[Mount], target: &str) -> Result<Resource, NoRoute> {
        resolve(mounts, &target.parse().unwrap(), &HeaderMap::new()).map(|routed| routed.resource)
    }

    #[test]
    fn fault45_one_path_on_two_origins_is_two_keys() {
        let mounts = [Mount::named("a"), Mount::named("b")];
        let a = resource(&mounts, "/a/film.mkv").unwrap();
        let b = resource(&mounts, "/b/film.mkv").unwrap();
        assert_eq!((a.key.origin(), a.key.path()), ("a", "/film.mkv"));
        assert_ne!(a.key, b.key);
        assert_eq!(
            resource(&mounts, "/c/film.mkv").unwrap_err(),
            NoRoute::Unknown
        );
        assert_eq!(resource(&mounts, "/").unwrap_err(), NoRoute::Unknown);
        assert_eq!(
            resource(&mounts, "/a?x=1").unwrap().target.expose(),
            "/?x=1"
        );
    }

    #[test]
    fn fault47_no_spelling_of_dots_leads_out_of_a_mount() {
        let mounts = [Mount::named("a"), Mount::named("b")];
        for target in [
            "/a/../b/x",
            "/a/..%2e/b/x",
            "/a/%2e%2e/b/x",
            "/a/../../../b/x",
            "/a/./../b/x",
        ] {
            let found = resource(&mounts, target).unwrap();
            assert_eq!(found.key.origin(), "a", "{target}");
            assert!(!found.target.expose().contains("/../"), "{target}");
        }
        let only = [Mount::unnamed()];
        assert_eq!(
            resource(&only, "/../../etc/passwd")
                .unwrap()
                .target
                .expose(),
            "/etc/passwd"
        );
        assert_eq!(
            resource(&only, "/x%2f..%2fy").unwrap().key.path(),
            "/x%2F..%2Fy"
        );
    }

    #[test]
    fn a_name_has_one_key_however_it_is_written() {
        let only = [Mount::unnamed()];
        let raw = resource(&only, "/f\u{e9}\u{1f3ac}.mkv").unwrap();
        let escaped = resource(&only, "/f%c3%a9%F0%9F%8E%AC.mkv").unwrap();
        assert_eq!(raw.key, escaped.key);
        assert_eq!(raw.target.expose(), "/f%C3%A9%F0%9F%8E%AC.mkv");
        let raw = resource(&only, "/{f}|g.mkv").unwrap();
        let escaped = resource(&only, "/%7bf%7D%7Cg.mkv").unwrap();
        assert_eq!(raw.key, escaped.key);
        assert_eq!(raw.target.expose(), "/%7Bf%7D%7Cg.mkv");
    }

    #[test]
    fn fault47_a_backslash_is_part_of_a_name_and_no_slash() {
        let mounts = [Mount::named("a")];
        let raw = resource(&mounts, r"/a/..\..\b.mkv?q=\").unwrap();
        let escaped = resource(&mounts, r"/a/..%5c..%5Cb.mkv?q=\").unwrap();
        assert_eq!(raw.key, escaped.key);
        assert_eq!(raw.target.expose(), r"/..%5C..%5Cb.mkv?q=\");
    }

    #[test]
    fn trap17_a_rotated_signature_is_the_same_key_and_travels() {
        let only = [Mount::unnamed()];
        let one = resource(&only, "/film.mkv?token=one&v=2").unwrap();
        let two = resource(&only, "/film.mkv?token=two&v=2").unwrap();
        assert_eq!(one.key, two.key);
        assert_eq!(one.target.expose(), "/film.mkv?token=one&v=2");
        assert_eq!(one.key.query(), "v=2");
    }

    #[test]
    fn fault45_credentials_are_dropped_unless_forwarded_and_then_keep_apart() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer s3cret".parse().unwrap());
        let uri: Uri = "/film.mkv".parse().unwrap();
        let plain = [Mount::unnamed()];
        let dropped = resolve(&plain, &uri, &headers).unwrap().resource;
        assert_eq!(dropped.authorization, None);
        assert_eq!(dropped.key.partition(), "");

        let key = PartitionKey::new([7; 32]);
        let forwarding = [Mount::unnamed().forwarding_authorization(key)];
        let kept = resolve(&forwarding, &uri, &headers).unwrap().resource;
        assert_eq!(
            kept.authorization.as_ref().unwrap().expose(),
            "Bearer s3cret"
        );
        assert_eq!(kept.key.partition().len(), 32);
        assert!(!format!("{kept:?}").contains("s3cret"));
        headers.insert(AUTHORIZATION, "Bearer other".parse().unwrap());
        let other = resolve(&forwarding, &uri, &headers).unwrap().resource;
        assert_ne!(kept.key, other.key);
    }

    #[test]
    fn fault48_a_mount_that_hides_queries_keeps_them_apart_and_keeps_none() {
        let hiding = [Mount::unnamed().hiding_queries(PartitionKey::new([7; 32]))];
        let one = resource(&hiding, "/film.mkv?pass=hunter2&token=a").unwrap();
        let again = resource(&hiding, "/film.mkv?pass=hunter2&token=b").unwrap();
        let other = resource(&hiding, "/film.mkv?pass=hunter3&token=a").unwrap();
        assert_eq!(one.key, again.key, "a signature is no part of the identity");
        assert_ne!(one.key, other.key, "another query may be another file");
        assert!(one.key.is_query_hidden() && !one.key.query().contains("hunter"));
        assert_eq!(one.target.expose(), "/film.mkv?pass=hunter2&token=a");
        let plain = resource(&hiding, "/film.mkv?token=a").unwrap();
        assert_eq!(plain.key.query(), "");
        // What only looks like a hidden query is none.
        let made_up = format!("/film.mkv?{}", one.key.query());
        let uri = made_up.parse::<Uri>().unwrap();
        let made_up = resolve(&hiding, &uri, &HeaderMap::new());
        assert!(made_up.is_err() || made_up.unwrap().resource.key != one.key);
    }

    proptest! {
        #[test]
        fn fault47_whatever_the_target_no_dot_segment_goes_to_the_origin(
            segments in proptest::collection::vec(
                prop_oneof![Just(".."), Just("."), Just("%2e%2E"), Just("%2f"), Just("a"), Just(""), Just("%00"), Just("..\\"), Just("\\")],
                0..8,
            ),
        ) {
            let target = format!("/{}", segments.join("/"));
            let found = resource(&[Mount::unnamed()], &target).unwrap();
            prop_assert!(found.target.expose().starts_with('/') && !found.target.expose().contains('\\'));
            prop_assert!(found.target.expose().split('/').all(|segment| segment != ".." && segment != "."));
        }
    }
}
