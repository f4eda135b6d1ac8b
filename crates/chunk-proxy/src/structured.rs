//! Dictionaries of RFC 9651 (Structured Field Values), as far as to find one member.
//!
//! Strict, as the RFC demands: a field that is malformed anywhere is no field.

/// The value of a member. What nobody asks for is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Integer(i64),
    Boolean(bool),
    /// Of another type, or a list.
    Other,
}

/// The member called `name`, the last one where there are several; `None` where there is none, or `text` is no
/// dictionary.
pub(crate) fn member(text: &[u8], name: &str) -> Option<Item> {
    let mut rest = Rest(text);
    let mut found = None;
    rest.skip(b" ");
    while !rest.0.is_empty() {
        let key = rest.key()?;
        let value = if rest.take(b'=') {
            rest.value()?
        } else {
            Item::Boolean(true)
        };
        rest.parameters()?;
        if key == name.as_bytes() {
            found = Some(value);
        }
        rest.skip(b" \t");
        if rest.0.is_empty() {
            break;
        }
        if !rest.take(b',') {
            return None;
        }
        rest.skip(b" \t");
        // A comma is followed by something.
        if rest.0.is_empty() {
            return None;
        }
    }
    found
}

/// What has not been read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn skip(&mut self, bytes: &[u8]) {
        while self.0.first().is_some_and(|byte| bytes.contains(byte)) {
            self.0 = &self.0[1..];
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.0.first() == Some(&byte);
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    fn while_any(&mut self, is_one: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.0.iter().position(|&byte| !is_one(byte));
        let (taken, rest) = self.0.split_at(len.unwrap_or(self.0.len()));
        self.0 = rest;
        taken
    }

    /// RFC 9651, 4.2.3.3.
    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        if !first.is_ascii_lowercase() && first != b'*' {
            return None;
        }
        Some(self.while_any(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        }))
    }

    /// An item or an inner list (4.2.1.1), without its parameters.
    fn value(&mut self) -> Option<Item> {
        if !self.take(b'(') {
            return self.item();
        }
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    /// 4.2.3.2.
    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.skip(b" ");
            self.key()?;
            if self.take(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    /// 4.2.3.1.
    fn item(&mut self) -> Option<Item> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => {
                self.take(b'?');
                let is_true = self.take(b'1');
                (is_true || self.take(b'0')).then_some(Item::Boolean(is_true))
            }
            b':' => {
                self.take(b':');
                self.while_any(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.take(b':').then_some(Item::Other)
            }
            b'@' => {
                self.take(b'@');
                let date = self.number()?;
                matches!(date, Item::Integer(_)).then_some(Item::Other)
            }
            b'%' => {
                self.take(b'%');
                self.string()
            }
            first if first.is_ascii_alphabetic() || first == b'*' => {
                self.while_any(is_token_byte);
                Some(Item::Other)
            }
            _ => None,
        }
    }

    /// 4.2.4.
    fn number(&mut self) -> Option<Item> {
        let is_negative = self.take(b'-');
        let whole = self.while_any(|byte| byte.is_ascii_digit());
        if whole.is_empty() {
            return None;
        }
        if self.take(b'.') {
            let decimals = self.while_any(|byte| byte.is_ascii_digit());
            let is_good = whole.len() <= 12 && (1..=3).contains(&decimals.len());
            return is_good.then_some(Item::Other);
        }
        if whole.len() > 15 {
            return None;
        }
        let add = |sum: i64, &digit: &u8| sum * 10 + i64::from(digit - b'0');
        let number = whole.iter().fold(0, add);
        Some(Item::Integer(if is_negative { -number } else { number }))
    }

    /// 4.2.5; a display string (4.2.10) is one as well.
    fn string(&mut self) -> Option<Item> {
        if !self.take(b'"') {
            return None;
        }
        loop {
            self.while_any(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
            if self.take(b'"') {
                return Some(Item::Other);
            }
            if !self.take(b'\\') || !(self.take(b'"') || self.take(b'\\')) {
                return None;
            }
        }
    }
}

/// RFC 9110, 5.6.2, with what RFC 9651 adds.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
                | b':'
                | b'/'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn u(text: &str) -> Option<Item> {
        member(text.as_bytes(), "u")
    }

    #[test]
    fn members_are_found_among_members_of_every_type() {
        for text in [
            "u=3",
            "  u=3  ",
            "a,u=3",
            "a=1.5 ,\tu=3",
            "a=\"q\\\"uo,te\", u=3",
            "a=:aGk=:, u=3;p;q=?0;r=tok/en",
            "a=(1 \"two\" three);x=1, u=3",
            "a=(  ), u=3",
            "a=@1659578233, b=%\"f%c3%bc\", *c=*x, u=3",
            "u=1, u=?0, u=3",
        ] {
            assert_eq!(u(text), Some(Item::Integer(3)), "{text}");
        }
        assert_eq!(u("u"), Some(Item::Boolean(true)));
        assert_eq!(u("u=?0"), Some(Item::Boolean(false)));
        assert_eq!(u("u=-12"), Some(Item::Integer(-12)));
        assert_eq!(u("u=(3)"), Some(Item::Other));
    }

    #[test]
    fn what_is_malformed_anywhere_is_no_dictionary() {
        for text in [
            "u=3,",
            ",u=3",
            "u=3 a",
            "u=3;",
            "u=3;P",
            "u=",
            "u =3",
            "u= 3",
            "u=3.",
            "u=1.2345",
            "u=1234567890123456",
            "u=3, A",
            "u=3, a=\"x",
            "u=3, a=\"\\x\"",
            "u=3, a=(1",
            "u=3, a=(1\"\")",
            "u=3, a=:?:",
            "u=3, a=?2",
            "u=3, a=@1.5",
            "u=3\u{7f}",
            "u=--3",
        ] {
            assert_eq!(u(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[u=0-9a,;()\" \\\\?:@%*.A-]{0,24}") {
            let found = u(&text);
            // What is well-formed stays so with a member more before it or behind it.
            if found.is_some() {
                prop_assert_eq!(u(&format!("u=5, {text}")), found);
                prop_assert_eq!(u(&format!("{text}, u=5")), Some(Item::Integer(5)));
            }
        }
    }
}
