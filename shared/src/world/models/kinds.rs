//! What road users are: classes as annotated, and makes as built.

use crate::world::config::VehicleMix;
use crate::world::random::Dice;

/// What an object is, as annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Class {
    Car,
    Van,
    Truck,
    Bus,
    Motorcycle,
    Bicycle,
    Autorickshaw,
    Tractor,
    Cart,
    Person,
    Animal,
}

impl Class {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Car,
        Self::Van,
        Self::Truck,
        Self::Bus,
        Self::Motorcycle,
        Self::Bicycle,
        Self::Autorickshaw,
        Self::Tractor,
        Self::Cart,
        Self::Person,
        Self::Animal,
    ];

    /// As it is written in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Van => "van",
            Self::Truck => "truck",
            Self::Bus => "bus",
            Self::Motorcycle => "motorcycle",
            Self::Bicycle => "bicycle",
            Self::Autorickshaw => "autorickshaw",
            Self::Tractor => "tractor",
            Self::Cart => "cart",
            Self::Person => "person",
            Self::Animal => "animal",
        }
    }
}

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::world) enum Make {
    Sedan,
    Hatchback,
    Suv,
    Van,
    Pickup,
    BoxTruck,
    OpenTruck,
    SemiTrailer,
    CityBus,
    SchoolBus,
    Motorcycle,
    Scooter,
    Bicycle,
    Autorickshaw,
    CycleRickshaw,
    Tractor,
    Cart,
    Person,
    Cow,
    Dog,
}

impl Make {
    pub(in crate::world) fn class(self) -> Class {
        match self {
            Self::Sedan | Self::Hatchback | Self::Suv | Self::Pickup => Class::Car,
            Self::Van => Class::Van,
            Self::BoxTruck | Self::OpenTruck | Self::SemiTrailer => Class::Truck,
            Self::CityBus | Self::SchoolBus => Class::Bus,
            Self::Motorcycle | Self::Scooter => Class::Motorcycle,
            // Three wheels, but pedalled; tables of real data know no better name.
            Self::Bicycle | Self::CycleRickshaw => Class::Bicycle,
            Self::Autorickshaw => Class::Autorickshaw,
            Self::Tractor => Class::Tractor,
            Self::Cart => Class::Cart,
            Self::Person => Class::Person,
            Self::Cow | Self::Dog => Class::Animal,
        }
    }

    pub(in crate::world) fn two_wheeled(self) -> bool {
        matches!(self, Self::Motorcycle | Self::Scooter | Self::Bicycle)
    }

    pub(in crate::world) fn draw(dice: &mut Dice, mix: &VehicleMix) -> Self {
        let table = [
            (mix.sedan, Self::Sedan),
            (mix.hatchback, Self::Hatchback),
            (mix.suv, Self::Suv),
            (mix.van, Self::Van),
            (mix.pickup, Self::Pickup),
            (mix.box_truck, Self::BoxTruck),
            (mix.open_truck, Self::OpenTruck),
            (mix.semi_trailer, Self::SemiTrailer),
            (mix.city_bus, Self::CityBus),
            (mix.school_bus, Self::SchoolBus),
            (mix.motorcycle, Self::Motorcycle),
            (mix.scooter, Self::Scooter),
            (mix.bicycle, Self::Bicycle),
            (mix.autorickshaw, Self::Autorickshaw),
            (mix.cycle_rickshaw, Self::CycleRickshaw),
            (mix.tractor, Self::Tractor),
            (mix.cart, Self::Cart),
        ];
        table[dice.weighted(&table.map(|(weight, _)| weight))].1
    }
}
