//! Cattle and dogs.

use crate::world::math::{Rgb, sin};
use crate::world::mesh::{Cover, Mesh};
use crate::world::texture::{Kind, Texture};

/// A four-legged animal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beast {
    /// Height of the back.
    pub(super) tall: f32,
    pub(super) coat: Rgb,
    pub(super) patch: Rgb,
    pub(super) horns: bool,
}

impl Beast {
    pub(super) fn pose(&self, phase: f32, plain: u32, textures: &[Texture], mesh: &mut Mesh) {
        let t = self.tall;
        let coat = Cover::tinted(plain, self.coat, Kind::Matte);
        let patch = Cover::tinted(plain, self.patch, Kind::Matte);
        let dark = Cover::tinted(plain, [0.03, 0.026, 0.023], Kind::Matte);
        mesh.ball(
            [0.0, 0.72 * t, 0.0],
            [0.22 * t, 0.25 * t, 0.62 * t],
            6,
            8,
            coat,
            textures,
        );
        mesh.ball(
            [0.03 * t, 0.76 * t, -0.18 * t],
            [0.205 * t, 0.22 * t, 0.26 * t],
            5,
            7,
            patch,
            textures,
        );
        mesh.ball(
            [0.0, 0.80 * t, 0.42 * t],
            [0.16 * t, 0.20 * t, 0.20 * t],
            5,
            7,
            coat,
            textures,
        );
        for (x, z, shift) in [
            (-1.0_f32, 0.40, 0.0),
            (1.0, 0.40, 3.1),
            (-1.0, -0.44, 3.1),
            (1.0, -0.44, 0.0),
        ] {
            let swing = 0.14 * t * sin(phase + shift);
            let (x, z) = (x * 0.13 * t, z * t);
            let knee = [x, 0.33 * t, z + swing * 0.4];
            mesh.limb(
                [x, 0.66 * t, z],
                knee,
                [0.085 * t, 0.05 * t],
                5,
                coat,
                textures,
            );
            mesh.limb(
                knee,
                [x, 0.04 * t, z + swing],
                [0.045 * t, 0.04 * t],
                5,
                patch,
                textures,
            );
        }
        let nod = 0.03 * t * sin(phase * 0.5);
        let head = [0.0, 0.98 * t + nod, 0.80 * t];
        mesh.limb(
            [0.0, 0.80 * t, 0.50 * t],
            [0.0, 0.97 * t + nod, 0.74 * t],
            [0.14 * t, 0.09 * t],
            6,
            coat,
            textures,
        );
        mesh.limb(
            head,
            [0.0, 0.82 * t + nod, 0.98 * t],
            [0.10 * t, 0.055 * t],
            6,
            coat,
            textures,
        );
        mesh.ball(head, [0.10 * t, 0.11 * t, 0.12 * t], 4, 6, coat, textures);
        for side in [-1.0_f32, 1.0] {
            mesh.ball(
                [side * 0.16 * t, 1.0 * t + nod, 0.76 * t],
                [0.08 * t, 0.035 * t, 0.03 * t],
                3,
                5,
                patch,
                textures,
            );
            if self.horns {
                mesh.limb(
                    [side * 0.06 * t, 1.06 * t + nod, 0.78 * t],
                    [side * 0.15 * t, 1.26 * t + nod, 0.74 * t],
                    [0.03 * t, 0.01 * t],
                    4,
                    dark,
                    textures,
                );
            }
        }
        mesh.limb(
            [0.0, 0.82 * t, -0.60 * t],
            [0.0, 0.36 * t, -0.68 * t],
            [0.03 * t, 0.02 * t],
            4,
            patch,
            textures,
        );
    }
}
