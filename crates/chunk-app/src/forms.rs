//! What the value of each key of the settings file looks like, so that one of another kind is told what would be right.

/// The form of a value, with an example as it is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text(&'static str),
    /// A list of texts.
    Texts(&'static str),
    /// A text with a number and its unit, or a number.
    Quantity(&'static str),
    Switch,
    /// A table of header fields.
    Headers,
}

/// The form of the key `name`; one name has one form wherever it stands. `None` for what is looked at elsewhere.
fn form(name: &str) -> Option<Form> {
    Some(match name {
        "listen" => Form::Text("\"127.0.0.1:8787\""),
        "tls_cert" => Form::Text("\"chain.pem\""),
        "tls_key" => Form::Text("\"key.pem\""),
        "admin_listen" => Form::Text("\"127.0.0.1:8788\""),
        "cache_dir" => Form::Text("\"/var/cache/chunkd\""),
        "log" => Form::Text("\"info\""),
        "url" => Form::Text("\"https://media.example.org/library/\""),
        "ca_file" => Form::Text("\"ca.pem\""),
        "client_cert" => Form::Text("\"client.pem\""),
        "auth" => Form::Text("\"forward\""),
        "hosts" => Form::Texts("[\"media.lan\"]"),
        "cors" => Form::Texts("[\"https://player.example.org\"]"),
        "signature_parameters" => Form::Texts("[\"sig\"]"),
        "grace" => Form::Quantity("\"10s\""),
        "max_connections" => Form::Quantity("1024"),
        "chunk_size" => Form::Quantity("\"10MiB\""),
        "max_downloads" => Form::Quantity("4"),
        "read_ahead" => Form::Quantity("\"30s\""),
        "max_size" => Form::Quantity("\"50GiB\""),
        "min_free" => Form::Quantity("\"5GiB\""),
        "memory" => Form::Quantity("\"64MiB\""),
        "background_rate" => Form::Quantity("\"20Mbit/s\""),
        "metered" | "fill" | "allow_private" | "immutable" | "private_cache" => Form::Switch,
        "headers" => Form::Headers,
        _ => return None,
    })
}

impl Form {
    fn fits(self, value: &toml::Value) -> bool {
        match self {
            Self::Text(_) => value.is_str(),
            Self::Texts(_) => value
                .as_array()
                .is_some_and(|values| values.iter().all(toml::Value::is_str)),
            Self::Quantity(_) => value.is_str() || value.is_integer(),
            Self::Switch => value.is_bool(),
            Self::Headers => value.is_table(),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Text(_) => "a text, in quotes",
            Self::Texts(_) => "a list of texts",
            Self::Quantity("1024" | "4") => "a whole number",
            Self::Quantity(_) => "a number with its unit, in quotes",
            Self::Switch => "true or false, without quotes",
            Self::Headers => "a table",
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Text(example) | Self::Texts(example) | Self::Quantity(example) => example,
            Self::Switch => "true",
            Self::Headers => "{ X-Api-Key = { env = \"VARIABLE\" } }",
        }
    }
}

/// Finds a value of another kind than its key has. The error does not repeat it: a URL with a password may stand where
/// none belongs.
pub(crate) fn check(prefix: &str, table: &toml::Table) -> Result<(), String> {
    for (name, value) in table {
        if let Some(form) = form(name).filter(|form| !form.fits(value)) {
            return Err(format!(
                "`{prefix}{name}` must be {}; say {name} = {}",
                form.kind(),
                form.example()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::config::{ConfigFile, ORIGIN_KEYS, TOP_KEYS};

    /// Neither a text nor a number nor a switch nor a table.
    const ODD: &str = "1979-05-27";

    #[test]
    fn every_key_says_what_would_be_right_and_that_is_right() {
        let tables = ["origin", "origins", "secret_query"];
        let keys = |names: &'static [&str], prefix| names.iter().map(move |name| (prefix, *name));
        let all = keys(TOP_KEYS, "").chain(keys(ORIGIN_KEYS, "[origin]\n"));
        for (section, name) in all.filter(|(_, name)| !tables.contains(name)) {
            let error = ConfigFile::parse(&format!("{section}{name} = {ODD}")).unwrap_err();
            let (wrong, right) = error.split_once("; say ").unwrap();
            assert!(wrong.contains(&format!("{name}` must be ")), "{error}");
            let read = ConfigFile::parse(&format!("{section}{right}"));
            assert!(read.is_ok(), "{right}: {read:?}");
        }
    }

    #[test]
    fn the_kinds_that_are_mistaken_most_are_told_apart() {
        for (text, message) in [
            (
                "listen = 8787",
                "`listen` must be a text, in quotes; say listen = \"127.0.0.1:8787\"",
            ),
            (
                "fill = \"yes\"",
                "`fill` must be true or false, without quotes; say fill = true",
            ),
            (
                "hosts = \"media.lan\"",
                "`hosts` must be a list of texts; say hosts = [\"media.lan\"]",
            ),
            (
                "max_downloads = 4.5",
                "`max_downloads` must be a whole number; say max_downloads = 4",
            ),
            (
                "[origins.a]\nurl = [\"http://h/\"]",
                "`origins.a.url` must be a text, in quotes; say url = \"https://media.example.org/library/\"",
            ),
        ] {
            assert_eq!(ConfigFile::parse(text).unwrap_err(), message);
        }
    }
}
