//! What a rendered world is made of. Every constant that shapes it has a name here or at the top of its module.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where the road is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// North American streets and highways: traffic keeps right.
    Us,
    /// Indian streets and highways: traffic keeps left.
    India,
}

impl Region {
    /// As it is written on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::India => "india",
        }
    }
}

/// What happens in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Traffic as it comes.
    Drive,
    /// One road user is hidden completely for about two seconds, and comes back.
    Occlusion,
}

/// Relative numbers of vehicles on the road; they need not add up to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct VehicleMix {
    pub sedan: f32,
    pub hatchback: f32,
    pub suv: f32,
    pub van: f32,
    pub pickup: f32,
    pub box_truck: f32,
    pub open_truck: f32,
    pub semi_trailer: f32,
    pub city_bus: f32,
    pub school_bus: f32,
    pub motorcycle: f32,
    pub scooter: f32,
    pub bicycle: f32,
    pub autorickshaw: f32,
    #[serde(default)]
    pub cycle_rickshaw: f32,
    pub tractor: f32,
    pub cart: f32,
}

impl VehicleMix {
    fn fields(&self) -> [(&'static str, f32); 17] {
        [
            ("place.mix.sedan", self.sedan),
            ("place.mix.hatchback", self.hatchback),
            ("place.mix.suv", self.suv),
            ("place.mix.van", self.van),
            ("place.mix.pickup", self.pickup),
            ("place.mix.box_truck", self.box_truck),
            ("place.mix.open_truck", self.open_truck),
            ("place.mix.semi_trailer", self.semi_trailer),
            ("place.mix.city_bus", self.city_bus),
            ("place.mix.school_bus", self.school_bus),
            ("place.mix.motorcycle", self.motorcycle),
            ("place.mix.scooter", self.scooter),
            ("place.mix.bicycle", self.bicycle),
            ("place.mix.autorickshaw", self.autorickshaw),
            ("place.mix.cycle_rickshaw", self.cycle_rickshaw),
            ("place.mix.tractor", self.tractor),
            ("place.mix.cart", self.cart),
        ]
    }
}

/// What differs between regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// Traffic keeps left.
    pub keeps_left: bool,
    /// Width of a lane.
    pub lane_width_m: [f32; 2],
    /// Lanes in each direction, lowest and highest.
    pub lanes: [u32; 2],
    /// Share of roads with a median between the directions.
    pub divided_share: f32,
    /// Speed that drivers want.
    pub speed_m_s: [f32; 2],
    /// Vehicles on each lane, a kilometre.
    pub vehicles_per_lane_km: [f32; 2],
    /// Who drives.
    pub mix: VehicleMix,
    /// 1: everyone in the middle of a lane; 0: anywhere.
    pub lane_discipline: f32,
    /// People on foot, a kilometre of road.
    pub people_per_km: [f32; 2],
    /// Share of people who are crossing or on the carriageway.
    pub jaywalking_share: f32,
    /// Cattle and dogs, a kilometre of road.
    pub animals_per_km: [f32; 2],
    /// Share of two-wheelers with a second rider.
    pub pillion_share: f32,
    /// Share of trucks that are painted all over.
    pub decorated_share: f32,
    /// Vehicles waiting at the road's edge, a kilometre and side.
    pub parked_per_km: [f32; 2],
    /// Share of roadside slots with a building, in a town.
    pub building_share: f32,
    /// Share of buildings with shops below.
    pub shop_share: f32,
    /// Share of slots with a wall along the road.
    pub wall_share: f32,
    /// Share of slots with trees.
    pub tree_share: f32,
    /// Share of trees that are palms.
    pub palm_share: f32,
    /// Share of slots with a stall, heap or kiosk.
    pub stall_share: f32,
    /// Share of slots with advertising.
    pub billboard_share: f32,
    /// Guard rails stand along twice this share of the roads without kerbs, and along no other.
    pub rail_share: f32,
    /// Share of roads with kerbs and pavements.
    pub kerb_share: f32,
    /// Share of kerbs painted in blocks.
    pub painted_kerb_share: f32,
    /// How worn lines are: 0 fresh, 1 gone.
    pub wear: [f32; 2],
    /// Dust on road edges, leaves and vehicles, 0 to 1.
    pub dust: [f32; 2],
    /// Distance at which contrast has fallen to a third, in clear weather.
    pub visibility_m: [f32; 2],
    /// Tint of the air: red, and 2 less this blue; 1 is none.
    pub haze_warmth: f32,
}

/// Weather and hours, as shares of the sequences where nothing else is said; the rest is an ordinary day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConditionShares {
    /// Night, with lamps.
    pub night: f32,
    /// The sun low and often ahead; of the sequences that are not by night.
    pub low_sun: f32,
    /// No shadows.
    pub overcast: f32,
    /// Rain and a wet road.
    pub rain: f32,
    /// Fog or smog.
    pub fog: f32,
    /// Sequences in which a bridge or a tunnel is passed.
    pub bridge: f32,
    /// Sequences through a dirty windscreen.
    pub dirty_lens: f32,
    /// Sequences with the dashboard mirrored in the windscreen; of those that are not by night.
    pub reflection: f32,
    /// Sequences that show our own bonnet.
    pub bonnet: f32,
}

impl Default for ConditionShares {
    fn default() -> Self {
        Self {
            night: 0.10,
            low_sun: 0.14,
            overcast: 0.24,
            rain: 0.08,
            fog: 0.05,
            bridge: 0.12,
            dirty_lens: 0.25,
            reflection: 0.30,
            bonnet: 0.45,
        }
    }
}

/// When an object counts as seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TruthConfig {
    /// Objects with a shorter side of the full box below this are to be ignored.
    pub ignore_below_px: f32,
    /// Objects of which a smaller share is visible are absent.
    pub absent_below_share: f32,
    /// Objects of which a smaller share is visible are occluded.
    pub occluded_below_share: f32,
}

impl Default for TruthConfig {
    fn default() -> Self {
        Self {
            ignore_below_px: 8.0,
            absent_below_share: 0.08,
            occluded_below_share: 0.75,
        }
    }
}

/// A world: everything but the seed and the sequence's number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldConfig {
    /// Image width.
    pub width_px: u32,
    /// Image height.
    pub height_px: u32,
    /// Frames a second.
    pub fps: f32,
    /// Frames of each sequence.
    pub frames: u32,
    /// What happens.
    pub scenario: Scenario,
    /// Name of the region.
    pub region: Region,
    /// What the region is like.
    pub place: RegionConfig,
    /// Weather and hours.
    pub conditions: ConditionShares,
    /// When an object counts as seen.
    pub truth: TruthConfig,
}

/// A setting that cannot be rendered.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("world configuration: {field} is {value}, expected {expected}")]
pub struct WorldConfigError {
    /// Path of the field.
    pub field: &'static str,
    /// What it was set to.
    pub value: f32,
    /// What would do.
    pub expected: &'static str,
}

/// Smallest and largest image side.
const SIDE_PX: [u32; 2] = [32, 4096];
/// Longest sequence.
const MOST_FRAMES: u32 = 20_000;

impl WorldConfig {
    /// The defaults of a region: 640x360 at 30 frames a second, 90 frames.
    ///
    /// ```
    /// use roadhound_shared::world::{Region, WorldConfig};
    /// let config = WorldConfig::of(Region::India);
    /// assert!(config.place.keeps_left && config.validate().is_ok());
    /// ```
    pub fn of(region: Region) -> Self {
        Self {
            width_px: 640,
            height_px: 360,
            fps: 30.0,
            frames: 90,
            scenario: Scenario::Drive,
            region,
            place: RegionConfig::of(region),
            conditions: ConditionShares {
                fog: match region {
                    Region::Us => 0.04,
                    Region::India => 0.07,
                },
                ..ConditionShares::default()
            },
            truth: TruthConfig::default(),
        }
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// The first field that cannot be rendered.
    pub fn validate(&self) -> Result<(), WorldConfigError> {
        let check = |field, value: f32, fits: bool, expected| {
            if fits {
                Ok(())
            } else {
                Err(WorldConfigError {
                    field,
                    value,
                    expected,
                })
            }
        };
        let side = |v: u32| (SIDE_PX[0]..=SIDE_PX[1]).contains(&v);
        check(
            "width_px",
            self.width_px as f32,
            side(self.width_px),
            "32 to 4096",
        )?;
        check(
            "height_px",
            self.height_px as f32,
            side(self.height_px),
            "32 to 4096",
        )?;
        check(
            "fps",
            self.fps,
            self.fps >= 1.0 && self.fps <= 240.0,
            "1 to 240",
        )?;
        check(
            "frames",
            self.frames as f32,
            (1..=MOST_FRAMES).contains(&self.frames),
            "1 to 20000",
        )?;
        let p = &self.place;
        check(
            "place.lanes",
            p.lanes[0] as f32,
            p.lanes[0] >= 1 && p.lanes[0] <= p.lanes[1] && p.lanes[1] <= 6,
            "1 to 6, the lower first",
        )?;
        for (field, range, low, high) in [
            ("place.lane_width_m", p.lane_width_m, 2.0, 6.0),
            ("place.speed_m_s", p.speed_m_s, 1.0, 60.0),
            (
                "place.vehicles_per_lane_km",
                p.vehicles_per_lane_km,
                0.0,
                150.0,
            ),
            ("place.people_per_km", p.people_per_km, 0.0, 400.0),
            ("place.animals_per_km", p.animals_per_km, 0.0, 100.0),
            ("place.parked_per_km", p.parked_per_km, 0.0, 150.0),
            ("place.wear", p.wear, 0.0, 1.0),
            ("place.dust", p.dust, 0.0, 1.0),
            ("place.visibility_m", p.visibility_m, 20.0, 20_000.0),
        ] {
            let fits = range[0] >= low && range[0] <= range[1] && range[1] <= high;
            check(
                field,
                if range[0] < low { range[0] } else { range[1] },
                fits,
                "a range within its limits, the lower end first",
            )?;
        }
        let mix = p.mix.fields();
        for (field, weight) in mix {
            let fits = (0.0..=1e6).contains(&weight);
            check(field, weight, fits, "0 to 1000000")?;
        }
        let vehicles = mix.iter().map(|(_, weight)| weight).sum();
        check("place.mix", vehicles, vehicles > 0.0, "a sum above 0")?;
        let warmth = p.haze_warmth;
        let fits = (0.0..=2.0).contains(&warmth);
        check("place.haze_warmth", warmth, fits, "0 to 2")?;
        let c = &self.conditions;
        for (field, share) in [
            ("place.divided_share", p.divided_share),
            ("place.lane_discipline", p.lane_discipline),
            ("place.jaywalking_share", p.jaywalking_share),
            ("place.pillion_share", p.pillion_share),
            ("place.decorated_share", p.decorated_share),
            ("place.building_share", p.building_share),
            ("place.shop_share", p.shop_share),
            ("place.wall_share", p.wall_share),
            ("place.tree_share", p.tree_share),
            ("place.palm_share", p.palm_share),
            ("place.stall_share", p.stall_share),
            ("place.billboard_share", p.billboard_share),
            ("place.rail_share", p.rail_share),
            ("place.kerb_share", p.kerb_share),
            ("place.painted_kerb_share", p.painted_kerb_share),
            ("conditions.night", c.night),
            ("conditions.low_sun", c.low_sun),
            ("conditions.overcast", c.overcast),
            ("conditions.rain", c.rain),
            ("conditions.fog", c.fog),
            ("conditions.bridge", c.bridge),
            ("conditions.dirty_lens", c.dirty_lens),
            ("conditions.reflection", c.reflection),
            ("conditions.bonnet", c.bonnet),
            ("truth.absent_below_share", self.truth.absent_below_share),
            (
                "truth.occluded_below_share",
                self.truth.occluded_below_share,
            ),
        ] {
            check(field, share, (0.0..=1.0).contains(&share), "0 to 1")?;
        }
        let px = self.truth.ignore_below_px;
        check(
            "truth.ignore_below_px",
            px,
            (0.0..=1e4).contains(&px),
            "0 to 10000",
        )
    }
}

impl RegionConfig {
    /// The defaults of a region.
    pub fn of(region: Region) -> Self {
        match region {
            Region::Us => Self::us(),
            Region::India => Self::india(),
        }
    }

    fn us() -> Self {
        Self {
            keeps_left: false,
            lane_width_m: [3.3, 3.8],
            lanes: [1, 4],
            divided_share: 0.5,
            speed_m_s: [9.0, 29.0],
            vehicles_per_lane_km: [8.0, 40.0],
            mix: VehicleMix {
                sedan: 30.0,
                hatchback: 8.0,
                suv: 32.0,
                van: 6.0,
                pickup: 16.0,
                box_truck: 5.0,
                open_truck: 1.5,
                semi_trailer: 6.0,
                city_bus: 2.0,
                school_bus: 1.5,
                motorcycle: 3.0,
                scooter: 0.5,
                bicycle: 2.0,
                autorickshaw: 0.0,
                cycle_rickshaw: 0.0,
                tractor: 0.0,
                cart: 0.0,
            },
            lane_discipline: 0.95,
            people_per_km: [4.0, 45.0],
            jaywalking_share: 0.12,
            animals_per_km: [0.0, 1.0],
            pillion_share: 0.1,
            decorated_share: 0.0,
            parked_per_km: [0.0, 50.0],
            building_share: 0.55,
            shop_share: 0.35,
            wall_share: 0.08,
            tree_share: 0.55,
            palm_share: 0.08,
            stall_share: 0.02,
            billboard_share: 0.05,
            rail_share: 0.25,
            kerb_share: 0.7,
            painted_kerb_share: 0.08,
            wear: [0.0, 0.55],
            dust: [0.0, 0.25],
            visibility_m: [900.0, 9000.0],
            haze_warmth: 0.96,
        }
    }

    fn india() -> Self {
        Self {
            keeps_left: true,
            lane_width_m: [3.0, 3.6],
            lanes: [1, 3],
            divided_share: 0.5,
            speed_m_s: [5.0, 17.0],
            vehicles_per_lane_km: [18.0, 75.0],
            mix: VehicleMix {
                sedan: 12.0,
                hatchback: 17.0,
                suv: 9.0,
                van: 5.0,
                pickup: 3.0,
                box_truck: 2.0,
                open_truck: 8.0,
                semi_trailer: 0.8,
                city_bus: 5.0,
                school_bus: 1.0,
                motorcycle: 26.0,
                scooter: 13.0,
                bicycle: 4.0,
                autorickshaw: 17.0,
                cycle_rickshaw: 2.5,
                tractor: 1.8,
                cart: 1.4,
            },
            lane_discipline: 0.3,
            people_per_km: [15.0, 120.0],
            jaywalking_share: 0.3,
            animals_per_km: [0.0, 9.0],
            pillion_share: 0.45,
            decorated_share: 0.75,
            parked_per_km: [10.0, 80.0],
            building_share: 0.6,
            shop_share: 0.75,
            wall_share: 0.25,
            tree_share: 0.5,
            palm_share: 0.3,
            stall_share: 0.18,
            billboard_share: 0.12,
            rail_share: 0.08,
            kerb_share: 0.55,
            painted_kerb_share: 0.65,
            wear: [0.25, 1.0],
            dust: [0.25, 0.95],
            visibility_m: [500.0, 6000.0],
            haze_warmth: 1.05,
        }
    }
}
