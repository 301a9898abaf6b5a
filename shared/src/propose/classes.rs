//! What a road user can be.
//!
//! In: a class by the name that our packs and messages give it. Out: [`RoadUser`], whose number is the class's place
//! among the score maps.
//!
//! ```
//! use roadhound_shared::propose::RoadUser;
//! assert_eq!(RoadUser::ALL[RoadUser::Bus as usize], RoadUser::Bus);
//! assert_eq!(RoadUser::from_name("auto_rickshaw"), Some(RoadUser::AutoRickshaw));
//! assert_eq!(RoadUser::from_name("tree"), None);
//! ```

use serde::{Deserialize, Serialize};

/// A kind of road user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoadUser {
    /// Cars, jeeps, vans.
    Car,
    /// Lorries.
    Truck,
    /// Buses and coaches.
    Bus,
    /// Motorcycles and scooters, with whoever rides them.
    Motorcycle,
    /// Bicycles, with whoever rides them.
    Bicycle,
    /// People on foot.
    Person,
    /// Motorised three-wheelers.
    AutoRickshaw,
    /// Cattle, dogs and the like.
    Animal,
    /// Cycle rickshaws, carts, tractors and what else drives.
    Other,
}

impl RoadUser {
    /// Every kind, in the order of the score maps.
    pub const ALL: [Self; 9] = [
        Self::Car,
        Self::Truck,
        Self::Bus,
        Self::Motorcycle,
        Self::Bicycle,
        Self::Person,
        Self::AutoRickshaw,
        Self::Animal,
        Self::Other,
    ];
    /// How many kinds there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its name in messages, manifests and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Truck => "truck",
            Self::Bus => "bus",
            Self::Motorcycle => "motorcycle",
            Self::Bicycle => "bicycle",
            Self::Person => "person",
            Self::AutoRickshaw => "auto_rickshaw",
            Self::Animal => "animal",
            Self::Other => "other",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Some of the kinds: what an object can be, or what somebody knows about.
///
/// ```
/// use roadhound_shared::propose::RoadUser::{Bicycle, Bus, Car};
/// use roadhound_shared::propose::classes::RoadUsers;
/// let wheels = RoadUsers::of(&[Car, Bus]);
/// assert!(wheels.has(Bus) && !wheels.has(Bicycle));
/// assert_eq!((wheels.only(), RoadUsers::of(&[Car]).only()), (None, Some(Car)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RoadUsers(u16);

impl RoadUsers {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self((1 << RoadUser::COUNT) - 1);

    /// These.
    pub const fn of(kinds: &[RoadUser]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// Whether `kind` is one of them.
    pub const fn has(self, kind: RoadUser) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kind, where there is just one.
    pub fn only(self) -> Option<RoadUser> {
        let mut kinds = self.iter();
        kinds.next().filter(|_| kinds.next().is_none())
    }

    /// In the order of [`RoadUser::ALL`].
    pub fn iter(self) -> impl Iterator<Item = RoadUser> {
        RoadUser::ALL
            .into_iter()
            .filter(move |kind| self.has(*kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn a_set_holds_what_it_was_made_of() {
        for kind in RoadUser::ALL {
            assert!(RoadUsers::ALL.has(kind) && !RoadUsers::NONE.has(kind));
            assert_eq!(RoadUsers::of(&[kind]).only(), Some(kind));
            assert!(RoadUsers::of(&[kind]).iter().eq([kind]));
        }
        assert_eq!(RoadUsers::of(&RoadUser::ALL), RoadUsers::ALL);
        assert!(RoadUsers::NONE.is_empty() && RoadUsers::NONE.only().is_none());
    }

    #[test]
    fn a_kinds_number_is_its_place_and_its_name_is_the_one_that_files_hold() {
        for (place, kind) in RoadUser::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert_eq!(RoadUser::from_name(kind.name()), Some(kind));
            let text = toml::Value::try_from(kind).map(|v| format!("{v}"));
            assert_eq!(text, Ok(format!("{:?}", kind.name())));
        }
    }
}
