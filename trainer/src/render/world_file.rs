//! A world from a file that says only what differs from its region.
//!
//! In: the text of a TOML file and the region. Out: the region's [`WorldConfig`] with what the file says laid over it,
//! table by table; ranges are checked where it is rendered.

use roadhound_host::line::joined;
use roadhound_shared::world::{Region, WorldConfig};
use toml::{Table, Value};

use crate::config::one_line;

/// The world of a region, as a file changes it. Lists are replaced as a whole.
///
/// ```
/// use roadhound_shared::world::{Region, WorldConfig};
/// use roadhound_trainer::render::world_of_file;
/// let nights = world_of_file("[conditions]\nnight = 1.0\n", Region::India).unwrap();
/// let usual = WorldConfig::of(Region::India);
/// assert_eq!((nights.conditions.night, nights.conditions.rain), (1.0, usual.conditions.rain));
/// ```
///
/// # Errors
/// Text that is no TOML, a key that no world has, or a value of another type: one line, with its number where it is known.
pub fn world_of_file(text: &str, region: Region) -> Result<WorldConfig, String> {
    let said: Table = toml::from_str(text).map_err(|e| one_line(text, &e))?;
    let mut whole = Table::try_from(WorldConfig::of(region)).map_err(|e| e.to_string())?;
    lay_over(&mut whole, said);
    let world: Result<WorldConfig, _> = whole.try_into();
    world.map_err(|laid: toml::de::Error| {
        // Only the text itself knows its lines, but by itself it may lack keys, which is no mistake.
        match toml::from_str::<WorldConfig>(text) {
            Err(e) if !e.message().starts_with("missing field") => one_line(text, &e),
            _ => joined(&laid.to_string()),
        }
    })
}

fn lay_over(whole: &mut Table, said: Table) {
    for (key, value) in said {
        match (whole.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(said)) => lay_over(below, said),
            (_, value) => {
                whole.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_empty_file_is_the_region() {
        for region in [Region::Us, Region::India] {
            let world = world_of_file("", region).unwrap();
            assert_eq!(world, WorldConfig::of(region));
        }
    }

    #[test]
    fn a_whole_file_is_taken_as_it_is() {
        let mut world = WorldConfig::of(Region::India);
        (world.fps, world.place.mix.cart, world.place.lanes) = (12.0, 3.5, [1, 1]);
        let text = toml::to_string(&world).unwrap();
        assert_eq!(world_of_file(&text, Region::Us).unwrap(), world);
    }

    #[test]
    fn a_value_deep_in_a_table_leaves_its_neighbours() {
        let world = world_of_file("[place.mix]\ncart = 9\n", Region::India).unwrap();
        let mut expected = WorldConfig::of(Region::India);
        expected.place.mix.cart = 9.0;
        assert_eq!(world, expected);
    }

    #[test]
    fn mistakes_name_the_line_or_the_key() {
        for (text, said) in [
            ("[place", "line 1: "),
            ("fps = 30.0\nwidth_px = \"wide\"\n", "line 2: "),
            ("fps = 30.0\nnight = 1.0\n", "line 2: unknown field `night`"),
            ("[place]\nlanes = [1]\n", "invalid length 1"),
            ("[conditions]\nnigth = 1.0\n", "unknown field `nigth`"),
            ("place = 3\n", "line 1: "),
        ] {
            let error = world_of_file(text, Region::Us).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
