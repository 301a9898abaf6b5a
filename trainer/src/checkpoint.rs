//! Checkpoints: everything that a run needs to go on as if it had never stopped, in one safetensors file.
//!
//! In: a [`Checkpoint`]. Out: a file that is either the old one or the new one, never a torn one: it is written
//! beside its target, flushed to disk, and renamed.
//!
//! Tensor names are `weights/NAME`, `average/NAME`, `adam_first/NAME`, `adam_second/NAME`; the metadata holds the
//! step, the number of updates and the resolved configuration. Where a task has several players, the memory of those after
//! the first is in `adam_first.1/NAME` and so on.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use roadhound_host::whole;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::optim::AdamW;
use crate::params::Snapshot;

/// State of a run between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// Weights and running statistics.
    pub weights: Snapshot,
    /// Their exponential moving average: what is evaluated and shipped.
    pub average: Snapshot,
    /// The optimiser's memory, of the first player.
    pub adam: AdamW,
    /// Those of the other players.
    pub other_adams: Vec<AdamW>,
    /// Resolved configuration, TOML.
    pub config_toml: String,
}

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system said no.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// The file is not a checkpoint, or is damaged.
    #[error("{path}: not a checkpoint: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Players at most: a file that says more is no checkpoint.
const MOST_PLAYERS: usize = 16;

/// `name`, with the player's number behind it; the first one has none.
fn of_player(name: &str, player: usize) -> String {
    match player {
        0 => name.to_owned(),
        _ => format!("{name}.{player}"),
    }
}

impl Checkpoint {
    /// Writes atomically.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let io = |reason| CheckpointError::Io {
            path: path.to_owned(),
            reason,
        };
        let adams = || std::iter::once(&self.adam).chain(&self.other_adams);
        let mut groups = vec![
            ("weights".to_owned(), &self.weights),
            ("average".to_owned(), &self.average),
        ];
        for (player, adam) in adams().enumerate() {
            groups.push((of_player("adam_first", player), &adam.first));
            groups.push((of_player("adam_second", player), &adam.second));
        }
        let bytes: BTreeMap<String, Vec<u8>> = groups
            .iter()
            .flat_map(|(group, snapshot)| {
                snapshot.values.iter().map(move |(name, values)| {
                    (
                        format!("{group}/{name}"),
                        values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    )
                })
            })
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, data) in &bytes {
            let view = TensorView::new(Dtype::F32, vec![data.len() / 4], data).map_err(|e| {
                CheckpointError::Format {
                    path: path.to_owned(),
                    reason: e.to_string(),
                }
            })?;
            views.push((name.as_str(), view));
        }
        let mut metadata = HashMap::from([
            ("step".to_owned(), self.step.to_string()),
            ("config".to_owned(), self.config_toml.clone()),
        ]);
        for (player, adam) in adams().enumerate() {
            metadata.insert(of_player("updates", player), adam.updates.to_string());
        }
        let blob =
            safetensors::serialize(views, Some(metadata)).map_err(|e| CheckpointError::Format {
                path: path.to_owned(),
                reason: e.to_string(),
            })?;
        whole::write(path, header_in_order(&blob)).map_err(io)
    }

    /// Reads what [`Checkpoint::save`] wrote.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let blob = std::fs::read(path).map_err(|reason| CheckpointError::Io {
            path: path.to_owned(),
            reason,
        })?;
        let bad = |reason: String| CheckpointError::Format {
            path: path.to_owned(),
            reason,
        };
        let tensors = SafeTensors::deserialize(&blob).map_err(|e| bad(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&blob).map_err(|e| bad(e.to_string()))?;
        let metadata = header
            .metadata()
            .clone()
            .ok_or_else(|| bad("no metadata".into()))?;
        let field = |name: &str| {
            metadata
                .get(name)
                .ok_or_else(|| bad(format!("no field {name}")))
        };
        let number = |name: &str| {
            field(name)?
                .parse::<u64>()
                .map_err(|e| bad(format!("field {name}: {e}")))
        };
        let players = (0..MOST_PLAYERS)
            .take_while(|player| metadata.contains_key(&of_player("updates", *player)))
            .count();
        let mut adams = Vec::with_capacity(players);
        for player in 0..players {
            adams.push(AdamW {
                updates: number(&of_player("updates", player))?,
                ..AdamW::default()
            });
        }
        let (mut weights, mut average) = (Snapshot::default(), Snapshot::default());
        for (name, view) in tensors.iter() {
            let (group, parameter) = name
                .split_once('/')
                .ok_or_else(|| bad(format!("unexpected tensor {name}")))?;
            let snapshot = match group {
                "weights" => &mut weights,
                "average" => &mut average,
                _ => adams
                    .iter_mut()
                    .enumerate()
                    .find_map(|(player, adam)| match group {
                        _ if group == of_player("adam_first", player) => Some(&mut adam.first),
                        _ if group == of_player("adam_second", player) => Some(&mut adam.second),
                        _ => None,
                    })
                    .ok_or_else(|| bad(format!("unexpected tensor {name}")))?,
            };
            if view.dtype() != Dtype::F32 {
                return Err(bad(format!(
                    "tensor {name} is {:?}, expected F32",
                    view.dtype()
                )));
            }
            let values = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            snapshot.values.insert(parameter.to_owned(), values);
        }
        if adams.is_empty() {
            return Err(bad("no field updates".into()));
        }
        Ok(Self {
            step: number("step")?,
            weights,
            average,
            adam: adams.remove(0),
            other_adams: adams,
            config_toml: field("config")?.clone(),
        })
    }
}

/// The same file with its header's keys in order: the writer's table of metadata has another order in every process, and
/// equal states should be equal files.
fn header_in_order(blob: &[u8]) -> Vec<u8> {
    let in_order = || {
        let (length, rest) = blob.split_first_chunk::<8>()?;
        let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        let header: serde_json::Value = serde_json::from_slice(header).ok()?;
        let mut header = serde_json::to_vec(&header).ok()?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        Some([&length[..], &header, data].concat())
    };
    in_order().unwrap_or_else(|| blob.to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Checkpoint {
        let snapshot = |x: f32| Snapshot {
            values: BTreeMap::from([("a.b".to_owned(), vec![x, -x, f32::MIN_POSITIVE])]),
        };
        Checkpoint {
            step: 12,
            weights: snapshot(1.5),
            average: snapshot(2.5),
            adam: AdamW {
                first: snapshot(0.1),
                second: snapshot(0.2),
                updates: 11,
            },
            other_adams: vec![AdamW {
                first: snapshot(0.3),
                second: snapshot(0.4),
                updates: 22,
            }],
            config_toml: "seed = 1\n".into(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_to_the_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.safetensors");
        sample().save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), sample());
    }

    #[test]
    fn equal_states_are_equal_files() {
        let dir = tempfile::tempdir().unwrap();
        // A table of metadata gets a new order each time: some of 20 would differ.
        let files: Vec<Vec<u8>> = (0..20)
            .map(|k| {
                let path = dir.path().join(format!("{k}.safetensors"));
                sample().save(&path).unwrap();
                std::fs::read(&path).unwrap()
            })
            .collect();
        assert!(files.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_truncated_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last.safetensors");
        sample().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for keep in [0, 4, 9, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..keep]).unwrap();
            let message = Checkpoint::load(&path).unwrap_err().to_string();
            assert!(message.contains("last.safetensors"), "{message}");
        }
    }
}
