//! What must hold of any text that an operator writes, and the inputs that the fuzzer has found worth keeping.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::origin_url::OriginUrl;
use crate::units::{Cap, Count, Offset, Size, Span};

/// A size, a duration and the like: what is understood is understood again when it is printed.
pub(crate) fn units(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    fn round<T: FromStr + Display + PartialEq + Debug>(text: &str) {
        if let Ok(value) = text.parse::<T>() {
            let again = value.to_string().parse::<T>().ok();
            assert_eq!(again.as_ref(), Some(&value), "{value}");
        }
    }
    round::<Size>(text);
    round::<Cap>(text);
    let _ = text.parse::<Count>();
    let _ = text.parse::<Offset>();
    // Printed to the millisecond.
    if let Ok(Span(span)) = text.parse::<Span>() {
        let printed = Span(span).to_string();
        let again = printed.parse::<Span>().unwrap().0;
        assert_eq!(again.as_millis(), span.as_millis(), "{printed}");
    }
}

/// A base URL, and a URL that may lie below it.
pub(crate) fn origin_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (base, other) = text.split_once('\n').unwrap_or((text, text));
    let Ok(base) = OriginUrl::parse(base) else {
        return;
    };
    let printed = base.to_string();
    assert!(!printed.contains('@'), "{printed}");
    let again = OriginUrl::parse(&printed).unwrap();
    assert_eq!(again.to_string(), printed);
    assert!(again.is_same_server(&base));
    if let Some(below) = base.target_of(other) {
        assert!(below.starts_with('/') && other.contains(below));
    }
    assert_eq!(base.target_of(&format!("{printed}film")), Some("/film"));
}

#[cfg(test)]
mod tests {
    use chunk_testkit::corpus::replay;

    #[test]
    fn sizes_and_durations_that_were_found() {
        replay(include_str!("../corpus/units.txt"), super::units);
    }

    #[test]
    fn fault48_origins_that_were_found_print_no_password() {
        replay(include_str!("../corpus/origin-url.txt"), super::origin_url);
    }
}
