//! What the record of an earlier process counts for, beside what a command is told itself.

use crate::origin::Origin;
use crate::origin_url::OriginUrl;
use crate::record::{Record, Shape};

/// What an earlier process has recorded in the cache folder, and what it counts for.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// For nothing: a server does what it is told.
    Nothing,
    /// For what neither flags nor file say: a fetch may be given what it needs.
    Otherwise(Record),
    /// For more than the file: a short command asks about what is, and takes no flags.
    First(Record),
}

/// Who told a command of its origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Whoever typed it: by flags, or by naming a settings file.
    ByCommand,
    /// The file in the usual place, from which the last server may have been told to differ.
    ByUsualFile,
}

impl Known {
    const fn record(&self) -> Option<&Record> {
        match self {
            Self::Nothing => None,
            Self::Otherwise(record) | Self::First(record) => Some(record),
        }
    }

    /// What is in force of what is `given` and what is recorded.
    pub(crate) fn settle<T>(
        &self,
        given: Option<T>,
        told: Told,
        recorded: impl FnOnce(&Shape) -> T,
    ) -> Option<T> {
        let shape = self.record().and_then(|record| record.shape.as_ref());
        let recorded = shape.map(recorded);
        match (self, told) {
            (Self::First(_), _) | (_, Told::ByUsualFile) => recorded.or(given),
            (_, Told::ByCommand) => given.or(recorded),
        }
    }

    /// What is recorded of the origin `name`, as long as it is on the server of `url`.
    pub(crate) fn origin(&self, name: &str, url: &OriginUrl) -> Option<Origin> {
        let mut origins = self.record()?.origins().into_iter();
        origins.find(|known| known.name == name && known.url.is_same_server(url))
    }

    /// The origins in force: of a name, the one that is given. One without a name excludes all others.
    pub(crate) fn join(&self, mut given: Vec<Origin>, told: Told) -> Vec<Origin> {
        let recorded = self.record().map(Record::origins).unwrap_or_default();
        if recorded.is_empty() || given.is_empty() {
            return if given.is_empty() { recorded } else { given };
        }
        if matches!(self, Self::First(_)) {
            return recorded;
        }
        if told == Told::ByUsualFile {
            given.retain(|given| fits(given, &recorded));
        }
        let stays = |known: &Origin| {
            given.iter().all(|given| {
                !known.name.is_empty() && !given.name.is_empty() && given.name != known.name
            })
        };
        let mut all: Vec<_> = recorded.into_iter().filter(stays).collect();
        all.extend(given);
        all
    }
}

/// Whether `given` takes no recorded origin's place with another server.
fn fits(given: &Origin, recorded: &[Origin]) -> bool {
    let mut same = recorded.iter().filter(|known| known.name == given.name);
    match same.next() {
        Some(known) => known.url.to_string() == given.url.to_string(),
        None => !given.name.is_empty() && recorded.iter().all(|known| !known.name.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Mounts;

    fn origins(list: &[(&str, &str)]) -> Vec<Origin> {
        let origin =
            |(name, url): &(&str, &str)| Origin::plain(name, OriginUrl::parse(url).unwrap());
        list.iter().map(origin).collect()
    }

    fn record(list: &[(&str, &str)]) -> Record {
        Record::default().with(&Mounts::new(origins(list)).unwrap())
    }

    fn joined(known: &Known, given: &[(&str, &str)], told: Told) -> Vec<String> {
        let joined = known.join(origins(given), told);
        let mut joined: Vec<_> = joined
            .iter()
            .map(|o| format!("{}={}", o.name, o.url))
            .collect();
        joined.sort();
        joined
    }

    #[test]
    fn what_a_command_is_told_takes_the_place_of_what_is_recorded_name_by_name() {
        let known = Known::Otherwise(record(&[("a", "http://one/"), ("b", "http://two/")]));
        let told = Told::ByCommand;
        assert_eq!(
            joined(&known, &[], told),
            ["a=http://one/", "b=http://two/"]
        );
        assert_eq!(
            joined(
                &known,
                &[("b", "http://three/"), ("c", "http://four/")],
                told
            ),
            ["a=http://one/", "b=http://three/", "c=http://four/"]
        );
        assert_eq!(
            joined(&known, &[("", "http://five/")], told),
            ["=http://five/"]
        );
        let known = Known::Otherwise(record(&[("", "http://one/")]));
        assert_eq!(
            joined(&known, &[("a", "http://two/")], told),
            ["a=http://two/"]
        );
    }

    #[test]
    fn the_usual_file_adds_to_what_the_last_server_used_and_replaces_none_of_it() {
        let told = Told::ByUsualFile;
        let known = Known::Otherwise(record(&[("a", "http://one/")]));
        assert_eq!(
            joined(
                &known,
                &[("a", "http://two/"), ("b", "http://three/")],
                told
            ),
            ["a=http://one/", "b=http://three/"]
        );
        assert_eq!(
            joined(&known, &[("", "http://two/")], told),
            ["a=http://one/"]
        );
        let unnamed = Known::Otherwise(record(&[("", "http://one/")]));
        assert_eq!(
            joined(&unnamed, &[("a", "http://two/")], told),
            ["=http://one/"]
        );
        // Of the same server it says how that is asked now.
        let mut given = origins(&[("a", "http://one/")]);
        given[0].immutable = true;
        let joined = known.join(given, told);
        assert!(joined.len() == 1 && joined[0].immutable);
    }

    #[test]
    fn a_server_knows_nothing_and_a_short_command_the_record_first() {
        let list = &[("a", "http://one/")];
        let given = &[("b", "http://two/")];
        let told = Told::ByCommand;
        assert_eq!(joined(&Known::Nothing, given, told), ["b=http://two/"]);
        let first = Known::First(record(list));
        assert_eq!(joined(&first, given, told), ["a=http://one/"]);
        let empty = Known::First(Record::default());
        assert_eq!(joined(&empty, given, told), ["b=http://two/"]);
    }

    #[test]
    fn recorded_limits_come_after_those_of_a_fetch_and_before_those_of_a_file_for_others() {
        let shape = Shape {
            chunk_size: 1,
            max_downloads: 2,
            max_size: None,
            min_free: 7,
            background_rate: None,
            metered: false,
        };
        let record = record(&[("", "http://one/")]).shaped(shape);
        let settle =
            |known: &Known, given| known.settle(given, Told::ByCommand, |shape| shape.min_free);
        assert_eq!(settle(&Known::Nothing, None), None);
        let fetch = Known::Otherwise(record.clone());
        assert_eq!(
            (settle(&fetch, None), settle(&fetch, Some(1))),
            (Some(7), Some(1))
        );
        // The usual file may say less than the server was told, and less would evict.
        let usual = Told::ByUsualFile;
        assert_eq!(
            fetch.settle(Some(1), usual, |shape| shape.min_free),
            Some(7)
        );
        let nothing = Known::Nothing.settle(Some(1), usual, |shape| shape.min_free);
        assert_eq!(nothing, Some(1));
        let short = Known::First(record);
        assert_eq!(
            (settle(&short, None), settle(&short, Some(1))),
            (Some(7), Some(7))
        );
    }
}
