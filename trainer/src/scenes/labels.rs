//! What the packs' boxes say about kinds of road users, and what their silence says.
//!
//! In: the class of an annotation; per pack, which kinds it boxes wherever they are ([`PackLabels`]). Out:
//! [`RoadUsers`], the kinds that an object may be. Where a pack does not box persons, a place without a box is no proof
//! that nobody stands there.
//!
//! ```
//! use roadhound_shared::propose::RoadUser;
//! use roadhound_trainer::scenes::labels::kinds_of;
//! assert_eq!(kinds_of("van").only(), Some(RoadUser::Car));
//! let vehicle = kinds_of("vehicle");
//! assert!(vehicle.has(RoadUser::Truck) && !vehicle.has(RoadUser::Person));
//! assert!(kinds_of("traffic_light").is_empty());
//! ```

use roadhound_shared::propose::RoadUser::{
    Animal, AutoRickshaw, Bicycle, Bus, Car, Motorcycle, Other, Person, Truck,
};
use roadhound_shared::propose::{RoadUser, RoadUsers};
use serde::{Deserialize, Serialize};

/// What a pack labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackLabels {
    /// Name of the pack.
    pub pack: String,
    /// Kinds that it boxes wherever they are: where there is no box, there is none. The others' absence proves nothing.
    pub complete: Vec<RoadUser>,
}

/// The kinds that an object of one of our classes may be: several where a pack does not tell them apart, none where it
/// is no road user.
pub fn kinds_of(class: &str) -> RoadUsers {
    let kinds: &[RoadUser] = match class {
        "car" | "van" | "taxi" | "suv" | "jeep" | "minivan" => &[Car],
        "truck" => &[Truck],
        "bus" => &[Bus],
        "motorcycle" | "scooter" => &[Motorcycle],
        "bicycle" => &[Bicycle],
        // Whoever boxes riders apart boxes their machines, too.
        "person" | "person_or_rider" => &[Person],
        "rider" => &[Motorcycle, Bicycle, Person],
        "cyclist" => &[Bicycle, Person],
        "auto_rickshaw" => &[AutoRickshaw],
        "animal" | "bird" => &[Animal],
        "other_vehicle" | "cart" | "cycle_rickshaw" | "tractor" | "trailer" | "caravan" => &[Other],
        "vehicle" => &[Car, Truck, Bus, Motorcycle, Bicycle, AutoRickshaw, Other],
        _ => &[],
    };
    RoadUsers::of(kinds)
}

/// Kinds that may stand within the box of another without being boxed: whether a rider counts as a person of his own
/// differs from pack to pack.
pub fn unsaid_within(kinds: RoadUsers) -> RoadUsers {
    match kinds.has(Motorcycle) || kinds.has(Bicycle) {
        true => RoadUsers::of(&[Person]),
        false => RoadUsers::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::classes::canonical;

    #[test]
    fn every_kind_has_a_class_of_its_name_and_spellings_of_other_data_sets_find_it() {
        for kind in RoadUser::ALL {
            if kind != RoadUser::Other {
                assert_eq!(kinds_of(kind.name()).only(), Some(kind));
            }
        }
        for (theirs, kind) in [
            ("Pedestrian", Person),
            ("autorickshaw", AutoRickshaw),
            ("cow", Animal),
            ("motor", Motorcycle),
            ("Misc", Other),
        ] {
            assert_eq!(kinds_of(&canonical(theirs)).only(), Some(kind), "{theirs}");
        }
    }

    #[test]
    fn a_rider_may_or_may_not_be_a_person_and_nobody_hides_in_a_car() {
        assert!(unsaid_within(kinds_of("motorcycle")).has(Person));
        assert!(unsaid_within(kinds_of("car")).is_empty());
    }
}
