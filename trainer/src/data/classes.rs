//! One spelling for the classes of all packs.
//!
//! In goes a class as its pack spells it, out come our name for it and whether it marks an ignore region. Data sets
//! agree on what a car is and differ in how they write a motorcycle; balancing by class and picking distractors of the
//! same class need one name.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// Our name where it is not just another way to write the words. Left: lower case, words joined by `_`.
const SYNONYMS: &[(&str, &str)] = &[
    ("auto", "auto_rickshaw"),
    ("autorickshaw", "auto_rickshaw"),
    ("bear", "animal"),
    ("bike", "bicycle"),
    ("cat", "animal"),
    ("cattle", "animal"),
    ("cow", "animal"),
    ("dog", "animal"),
    ("elephant", "animal"),
    ("giraffe", "animal"),
    ("horse", "animal"),
    ("misc", "other_vehicle"),
    ("motor", "motorcycle"),
    ("motorbike", "motorcycle"),
    ("non_motorized_vehicle", "other_vehicle"),
    ("other_person", "person"),
    ("pedestrian", "person"),
    ("person_on_vehicle", "rider"),
    ("person_sitting", "person"),
    ("sheep", "animal"),
    ("static_person", "person"),
    ("vehicle_fallback", "other_vehicle"),
    ("zebra", "animal"),
];

/// Our name for a class that somebody else spelled: lower case, words joined by `_`, synonyms replaced.
///
/// ```
/// use roadhound_trainer::data::classes::canonical;
/// assert_eq!(canonical("Pedestrian"), "person");
/// assert_eq!(canonical("traffic light"), "traffic_light");
/// ```
pub fn canonical(spelled: &str) -> Cow<'static, str> {
    let joined: String = spelled
        .trim()
        .chars()
        .map(|c| match c {
            ' ' | '-' | '/' => '_',
            other => other.to_ascii_lowercase(),
        })
        .collect();
    match SYNONYMS.binary_search_by(|(theirs, _)| (*theirs).cmp(&joined)) {
        Ok(at) => Cow::Borrowed(SYNONYMS[at].1),
        Err(_) => Cow::Owned(joined),
    }
}

/// A class as annotations hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Our name.
    pub name: Arc<str>,
    /// Regions of this class are never targets and no proof of background.
    pub ignore: bool,
}

/// The classes of one pack, each looked up once. Shared by the threads that read it.
pub struct ClassTable<'a> {
    renames: &'a BTreeMap<String, String>,
    ignores: &'a (dyn Fn(&str) -> bool + Sync),
    known: RwLock<HashMap<String, Class>>,
}

impl<'a> ClassTable<'a> {
    /// `renames` gives our name by the pack's own spelling and goes before [`canonical`]; `ignores` is asked about our
    /// names.
    pub fn new(
        renames: &'a BTreeMap<String, String>,
        ignores: &'a (dyn Fn(&str) -> bool + Sync),
    ) -> Self {
        Self {
            renames,
            ignores,
            known: RwLock::default(),
        }
    }

    /// The class that the pack spells so.
    pub fn get(&self, spelled: &str) -> Class {
        // No statement under the lock can panic half way. Nearly every call finds its class, and many threads ask at once.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(class) = known.get(spelled) {
            return class.clone();
        }
        drop(known);
        let name = match self.renames.get(spelled) {
            Some(ours) => Cow::Borrowed(ours.as_str()),
            None => canonical(spelled),
        };
        let class = Class {
            ignore: (self.ignores)(&name),
            name: name.as_ref().into(),
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster: one class, one name in memory.
        known.entry(spelled.to_owned()).or_insert(class).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synonyms_are_sorted_so_that_they_can_be_searched() {
        assert!(SYNONYMS.is_sorted_by(|a, b| a.0 < b.0));
        for (theirs, ours) in SYNONYMS {
            assert_eq!(canonical(theirs), *ours);
            assert_eq!(canonical(ours), *ours, "our own names are fixed points");
        }
    }

    #[test]
    fn data_sets_spell_one_class_in_one_way() {
        for (spellings, ours) in [
            (&["Pedestrian", "person", "Person_sitting"][..], "person"),
            (&["motor", "Motorbike", "motorcycle"], "motorcycle"),
            (
                &["autorickshaw", "Auto Rickshaw", "auto-rickshaw"],
                "auto_rickshaw",
            ),
            (&["Car", " car "], "car"),
        ] {
            for spelled in spellings {
                assert_eq!(canonical(spelled), ours, "{spelled}");
            }
        }
    }

    #[test]
    fn the_configuration_has_the_last_word_on_names_and_ignore_regions() {
        let renames = BTreeMap::from([
            ("Tram".to_owned(), "bus".to_owned()),
            ("sign".to_owned(), "ignore".to_owned()),
        ]);
        let ignores = |class: &str| class == "ignore";
        let table = ClassTable::new(&renames, &ignores);
        assert_eq!(&*table.get("Tram").name, "bus");
        assert_eq!(&*table.get("tram").name, "tram");
        assert!(table.get("sign").ignore && !table.get("car").ignore);
        assert!(Arc::ptr_eq(&table.get("car").name, &table.get("car").name));
    }
}
