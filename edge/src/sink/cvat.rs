//! "CVAT for video 1.1": tracks for annotators to correct.
//!
//! In: [`Recorded`]. Out: XML with a `<track>` a road user. CVAT draws boxes between key frames by straight lines, and an
//! annotator has to mend every key frame that is wrong: so only those are written that straight lines need to stay within
//! [`tolerance_px`] of every box (Ramer, Douglas and Peucker, over time). Where somebody is hidden the track is `outside`.

use std::io::Write;

use roadhound_shared::geometry::BoxLtrb;
use roadhound_shared::propose::RoadUser;

use super::recorded::{Recorded, Shown, kind_of};

/// Straight lines may be off by this share of a side...
const TOLERANCE_SIDES: f32 = 0.02;
/// ...and always by this.
const TOLERANCE_PX: f32 = 1.0;

/// How far an edge may be from where the tracker had it.
pub fn tolerance_px(shown: &Shown) -> f32 {
    let b = &shown.box_in_image;
    (TOLERANCE_SIDES * b.w_px.min(b.h_px)).max(TOLERANCE_PX)
}

/// Writes the document.
///
/// # Errors
/// Those of the writer.
pub fn write(recorded: &Recorded, out: &mut dyn Write) -> std::io::Result<()> {
    let frames = recorded.frames.len();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"utf-8\"?>")?;
    writeln!(
        out,
        "<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>"
    )?;
    writeln!(out, "      <name>{}</name>", escaped(&recorded.name))?;
    writeln!(
        out,
        "      <size>{frames}</size>\n      <mode>interpolation</mode>"
    )?;
    writeln!(out, "      <start_frame>0</start_frame>")?;
    let last = frames.saturating_sub(1);
    writeln!(out, "      <stop_frame>{last}</stop_frame>")?;
    writeln!(out, "      <labels>")?;
    for kind in RoadUser::ALL {
        let name = kind.name();
        writeln!(
            out,
            "        <label><name>{name}</name><type>rectangle</type><attributes></attributes></label>"
        )?;
    }
    writeln!(out, "      </labels>")?;
    let (width, height) = (recorded.width_px, recorded.height_px);
    writeln!(
        out,
        "      <original_size><width>{width}</width><height>{height}</height></original_size>"
    )?;
    writeln!(out, "    </task>\n  </meta>")?;
    for (identity, track) in recorded.tracks() {
        write_track(out, identity, &track, frames as u32)?;
    }
    writeln!(out, "</annotations>")
}

fn write_track(
    out: &mut dyn Write,
    identity: u32,
    track: &[Shown],
    frames: u32,
) -> std::io::Result<()> {
    let label = kind_of(track).name();
    writeln!(
        out,
        "  <track id=\"{identity}\" label=\"{label}\" source=\"auto\">"
    )?;
    for run in track.chunk_by(|a, b| a.frame + 1 == b.frame) {
        for key in key_frames(run) {
            write_box(out, &run[key], run[key].frame, false)?;
        }
        // Whoever is there on the last frame never leaves.
        if let Some(last) = run.last().filter(|last| last.frame + 1 < frames) {
            write_box(out, last, last.frame + 1, true)?;
        }
    }
    writeln!(out, "  </track>")
}

fn write_box(out: &mut dyn Write, shown: &Shown, frame: u32, outside: bool) -> std::io::Result<()> {
    let b = BoxLtrb::from(shown.box_in_image);
    writeln!(
        out,
        "    <box frame=\"{frame}\" keyframe=\"1\" outside=\"{}\" occluded=\"0\" xtl=\"{:.2}\" ytl=\"{:.2}\" xbr=\"{:.2}\" ybr=\"{:.2}\" z_order=\"0\"></box>",
        u8::from(outside),
        b.left_px,
        b.top_px,
        b.right_px,
        b.bottom_px
    )
}

/// Places in a run of consecutive frames between which straight lines are near enough; the first and the last among them.
fn key_frames(run: &[Shown]) -> Vec<usize> {
    let Some(last) = run.len().checked_sub(1) else {
        return Vec::new();
    };
    let mut keys = vec![0, last];
    let mut spans = vec![(0, last)];
    while let Some((from, to)) = spans.pop() {
        let furthest = (from + 1..to)
            .map(|at| (off(run, from, to, at) / tolerance_px(&run[at]), at))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, at)) = furthest.filter(|(off, _)| *off > 1.0) {
            keys.push(at);
            spans.extend([(from, at), (at, to)]);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// How far the furthest edge is from the straight line between two others.
fn off(run: &[Shown], from: usize, to: usize, at: usize) -> f32 {
    let edges = |n: usize| {
        let b = BoxLtrb::from(run[n].box_in_image);
        [b.left_px, b.top_px, b.right_px, b.bottom_px]
    };
    let share = (at - from) as f32 / (to - from) as f32;
    let (a, b, here) = (edges(from), edges(to), edges(at));
    (0..4)
        .map(|k| (a[k] + share * (b[k] - a[k]) - here[k]).abs())
        .fold(0.0, f32::max)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to say these.
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::super::recorded::testing;
    use super::*;

    /// What CVAT makes of the document: by track, the box of every frame on which it is inside. It keeps a key frame until
    /// the next and goes straight between two.
    fn drawn(xml: &str, frames: u32) -> BTreeMap<(u32, String), BTreeMap<u32, [f32; 4]>> {
        let document = roxmltree::Document::parse(xml).unwrap();
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "annotations");
        let is_track = |node: &roxmltree::Node<'_, '_>| node.has_tag_name("track");
        let track = |node: roxmltree::Node<'_, '_>| {
            let id = node.attribute("id").unwrap().parse().unwrap();
            let label = node.attribute("label").unwrap().to_owned();
            let keys = node.children().filter(|n| n.has_tag_name("box")).map(|b| {
                let number = |name: &str| b.attribute(name).unwrap().parse::<f32>().unwrap();
                let edges = ["xtl", "ytl", "xbr", "ybr"].map(number);
                let outside = b.attribute("outside") == Some("1");
                (number("frame") as u32, outside, edges)
            });
            let keys: Vec<_> = keys.collect();
            let mut boxes = BTreeMap::new();
            for frame in 0..frames {
                let before = keys.iter().rev().find(|k| k.0 <= frame);
                let Some((from, false, a)) = before else {
                    continue;
                };
                let after = keys.iter().find(|k| k.0 > frame).filter(|k| !k.1);
                let place = after.map_or(*a, |(to, _, b)| {
                    let share = (frame - from) as f32 / (to - from) as f32;
                    std::array::from_fn(|k| a[k] + share * (b[k] - a[k]))
                });
                boxes.insert(frame, place);
            }
            ((id, label), boxes)
        };
        root.children().filter(is_track).map(track).collect()
    }

    #[test]
    fn an_annotator_sees_every_box_where_the_tracker_had_it_and_mends_few() {
        let recorded = testing();
        let mut bytes = Vec::new();
        write(&recorded, &mut bytes).unwrap();
        let xml = String::from_utf8(bytes).unwrap();
        let document = roxmltree::Document::parse(&xml).unwrap();
        let text = |name: &str| {
            let node = document.descendants().find(|n| n.has_tag_name(name));
            node.and_then(|n| n.text()).unwrap().to_owned()
        };
        assert_eq!(text("name"), "a & b.mp4");
        assert_eq!(
            (text("size"), text("stop_frame")),
            ("10".into(), "9".into())
        );
        let seen = drawn(&xml, 10);
        let names: Vec<_> = seen.keys().cloned().collect();
        assert_eq!(names, [(2, "car".to_owned()), (5, "person".to_owned())]);
        let mut boxes = 0;
        for shown in &recorded.shown {
            let track = seen
                .iter()
                .find(|((id, _), _)| *id == shown.identity)
                .unwrap();
            let edges = track.1[&shown.frame];
            let b = BoxLtrb::from(shown.box_in_image);
            for (found, meant) in edges
                .iter()
                .zip([b.left_px, b.top_px, b.right_px, b.bottom_px])
            {
                assert!(
                    (found - meant).abs() <= tolerance_px(shown) + 0.01,
                    "{shown:?}: {edges:?}"
                );
            }
            boxes += 1;
        }
        // Nobody is drawn where nobody was.
        assert_eq!(seen.values().map(BTreeMap::len).sum::<usize>(), boxes);
        // Ten frames of the car: a bend and two ends. The person: two runs of two ends, one `outside` between them.
        assert_eq!(xml.matches("<box").count(), 3 + 5);
    }

    #[test]
    fn an_empty_source_is_a_document_as_well() {
        let mut bytes = Vec::new();
        write(&Recorded::default(), &mut bytes).unwrap();
        let xml = String::from_utf8(bytes).unwrap();
        assert!(drawn(&xml, 3).is_empty() && xml.contains("<size>0</size>"));
        assert_eq!(escaped("a\n<b> \"c\""), "a &lt;b&gt; &quot;c&quot;");
    }
}
