//! The page: from what is known of runs to HTML.
//!
//! In: [`RunRecord`]s. Out: one self-contained page: of the run if there is one, else a comparison, in which a run
//! keeps its colour from chart to chart. Everything that comes from a file goes through [`escape`]; the page's own
//! content policy forbids scripts and anything from elsewhere.
//!
//! ```
//! use roadhound_trainer::report::{RunRecord, page};
//! let run = RunRecord { name: "<a>".into(), ..RunRecord::default() };
//! let html = page::render(&[run]);
//! assert!(html.contains("&lt;a&gt;") && !html.contains("<a>"));
//! ```

use std::fmt::Write;

use super::facts::Facts;
use super::panels;
use super::plot::{
    LineChart, SERIES_COLOURS, Series, calibration_error, reliability_diagram, short,
};
use super::settings::{Settings, differences};
use super::table::Table;
use super::{RunRecord, median};
use crate::systems::System;

const STYLE: &str = include_str!("style.css");

/// Share of a step that waiting for data may take (with two workers on a CPU).
const LOADER_LIMIT_PERCENT: f64 = 5.0;

/// In the place of charts that have no values.
const NOTHING_LOGGED: &str = "nothing logged yet";

/// Columns of `losses.csv` that are not parts of the loss.
const POSITION: [&str; 3] = ["step", "pairs", "samples"];
const OPTIMISER: [&str; 2] = ["rate", "gradient_norm"];
const SPEED: [&str; 3] = ["pairs_per_s", "samples_per_s", "loader_share"];

/// Text as HTML, in elements and in attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Bytes as base64 with padding (RFC 4648), for data URIs.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |k: usize| u32::from(chunk.get(k).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for k in 0..4 {
            match k <= chunk.len() {
                true => text.push(DIGITS[(bits >> (18 - 6 * k) & 63) as usize] as char),
                false => text.push('='),
            }
        }
    }
    text
}

/// How a column is shown.
struct Measure<'a> {
    title: &'a str,
    /// Values are multiplied by 100.
    percent: bool,
    /// Which way is better; of some figures neither is: the two sides of a game, what a code costs, a rate.
    better: Option<Better>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Better {
    Higher,
    Lower,
}

impl Better {
    /// The better one of some values.
    fn of(self, a: &f64, b: &f64) -> std::cmp::Ordering {
        match self {
            Self::Higher => a.total_cmp(b),
            Self::Lower => b.total_cmp(a),
        }
    }
}

fn measure(column: &str) -> Measure<'_> {
    use Better::{Higher, Lower};
    let (title, better) = match column {
        "auc" => ("success AUC", Some(Higher)),
        "iou" => ("IoU", Some(Higher)),
        "sr50" => ("share with IoU above 0.5", Some(Higher)),
        "presence_auc" => ("presence ROC-AUC", Some(Higher)),
        "presence_ece" => ("presence, calibration error", Some(Lower)),
        "identity_top1" => ("identity, first guess right", Some(Higher)),
        "score" => ("score (focal)", Some(Lower)),
        "giou" => ("box, 1 − GIoU", Some(Lower)),
        "l1" => ("box, L1 / size", Some(Lower)),
        "presence" => ("presence (cross-entropy)", Some(Lower)),
        "identity" => ("identity (InfoNCE)", Some(Lower)),
        "rate" => ("learning rate", None),
        "gradient_norm" => ("gradient norm, before clipping", None),
        "pairs_per_s" => ("pairs per second", Some(Higher)),
        "samples_per_s" => ("samples per second", Some(Higher)),
        "loader_share" => ("waiting for data, % of step time", Some(Lower)),
        other => (other, better(other)),
    };
    Measure {
        title,
        percent: column == "loader_share",
        better,
    }
}

/// Of the figures that go by their own names. What is not here has no better side that its name could tell.
fn better(column: &str) -> Option<Better> {
    match column {
        "accepted_at_1_percent"
        | "agreement"
        | "choice"
        | "dci_completeness"
        | "dci_disentanglement"
        | "dci_informativeness"
        | "high_quality"
        | "information"
        | "map_at_r"
        | "mig"
        | "modes"
        | "s_accuracy"
        | "sap"
        | "shared_nats"
        | "code_nats"
        | "soft_density"
        | "source_auc"
        | "target_accuracy" => Some(Better::Higher),
        "contrastive"
        | "cycle"
        | "eer"
        | "eer_of_seen_classes"
        | "energy"
        | "entropy"
        | "frechet"
        | "info_nce"
        | "mmd"
        | "multi_similarity"
        | "negative_elbo"
        | "proxy_a"
        | "reconstruction"
        | "triplet"
        | "z_accuracy"
        | "z_mean_accuracy" => Some(Better::Lower),
        other if other.starts_with("ap") || other.starts_with("recall") => Some(Better::Higher),
        other if other.contains("error") || other.contains("loss") => Some(Better::Lower),
        _ => None,
    }
}

/// Mean of the last tenth of a column, of what is finite there.
fn recent(table: &Table, column: &str) -> Option<f64> {
    let values = table.column(column)?;
    let last: Vec<f64> = values[values.len() - values.len().div_ceil(10)..]
        .iter()
        .copied()
        .filter(|v| v.is_finite())
        .collect();
    (!last.is_empty()).then(|| last.iter().sum::<f64>() / last.len() as f64)
}

/// The best value of a column and the pairs seen by then; of a column of which one side is better.
fn best(table: &Table, column: &str) -> Option<(f64, f64)> {
    let better = measure(column).better?;
    let values = table.column(column)?.iter().zip(progress(table)?);
    values
        .filter(|(v, _)| v.is_finite())
        .max_by(|a, b| better.of(a.0, b.0))
        .map(|(v, pairs)| (*v, *pairs))
}

/// How far the run was at each line.
fn progress(table: &Table) -> Option<&[f64]> {
    table.column("samples").or_else(|| table.column("pairs"))
}

fn last(table: &Table, column: &str) -> Option<f64> {
    table.column(column)?.last().copied()
}

fn pairs_done(run: &RunRecord) -> f64 {
    let of = |table| {
        progress(table)
            .and_then(<[f64]>::last)
            .copied()
            .unwrap_or(0.0)
    };
    of(&run.losses).max(of(&run.validation))
}

fn pairs_in_all(run: &RunRecord) -> Option<f64> {
    let known = run.facts.as_ref().map_or(0, |facts| facts.samples_in_all);
    if known > 0 {
        return Some(known as f64);
    }
    let settings = run.settings.as_ref()?;
    let (pairs, batch) = (
        settings.number(&format!("train.{}", run.unit()))?,
        settings.number("train.batch")?,
    );
    // Whole batches, as the run counts them.
    (batch >= 1.0).then(|| (pairs / batch).ceil() * batch)
}

/// 130008 as `130,008`.
fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    match value < 0.0 {
        true => format!("-{text}"),
        false => text,
    }
}

fn figure_text(column: &str, value: f64) -> String {
    let measure = measure(column);
    match (measure.percent, column) {
        _ if !value.is_finite() => "not a number".to_owned(),
        (true, _) => format!("{:.1} %", value * 100.0),
        (_, "rate") => format!("{value:.2e}"),
        _ if value.abs() < 10.0 => format!("{value:.3}"),
        _ => short(value),
    }
}

fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil();
    match minutes {
        m if m < 90.0 => format!("{m:.0} min"),
        m if m < 48.0 * 60.0 => format!("{:.1} h", m / 60.0),
        m => format!("{:.1} days", m / 1440.0),
    }
}

/// The page of one run, or the comparison of several.
pub fn render(runs: &[RunRecord]) -> String {
    let title = match runs {
        [run] => match run.system() {
            System::Tracker => format!("Run {}", run.name),
            system => format!("{}: {}", system.title(), run.name),
        },
        _ => format!("{} runs compared", runs.len()),
    };
    let mut sections: Vec<(&str, &str, String)> = vec![
        (
            "validation",
            "Validation",
            charts(runs, |r| &r.validation, |_| true, false),
        ),
        (
            "losses",
            "Losses",
            charts(
                runs,
                |r| &r.losses,
                |c| !OPTIMISER.contains(&c) && !SPEED.contains(&c),
                true,
            ),
        ),
        (
            "optimiser",
            "Optimiser",
            charts(runs, |r| &r.losses, |c| OPTIMISER.contains(&c), true),
        ),
        (
            "speed",
            "Speed",
            charts(runs, |r| &r.losses, |c| SPEED.contains(&c), true),
        ),
    ];
    if runs.iter().all(|run| run.system() != System::Tracker) {
        // Not every system logs all of this.
        let nothing = missing(NOTHING_LOGGED);
        sections.retain(|(_, _, body)| *body != nothing);
    }
    if runs.iter().all(|run| run.system() == System::Tracker) {
        sections.push(("calibration", "Calibration of presence", calibration(runs)));
    }
    match runs {
        [run] => {
            if !run.panels.is_empty() {
                let shown = panels::html(&run.panels, &run.panel_pictures);
                sections.insert(0, ("results", "Results", shown));
            }
            if run.system() == System::Tracker {
                sections.push(("pictures", "Samples", pictures(run)));
                sections.push(("data", "Data", data(run.facts.as_ref())));
            }
            sections.push(("configuration", "Configuration", configuration(run)));
        }
        _ => {
            sections.insert(0, ("figures", "Figures", comparison(runs)));
            sections.push((
                "configuration",
                "Configuration, where it differs",
                configuration_diff(runs),
            ));
        }
    }
    sections.push(("program", "Program", program(runs)));

    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\
         <title>{0}</title><style>\n{STYLE}</style></head>\n<body><header><h1>{0}</h1>\n",
        escape(&title)
    );
    match runs {
        [run] => head_of_run(&mut html, run),
        _ => legend(&mut html, runs),
    }
    html.push_str("</header>\n<nav><div>");
    for (id, title, _) in &sections {
        let short_title = title.split([',', ' ']).next().unwrap_or(title);
        let _ = write!(html, "<a href=\"#{id}\">{short_title}</a>");
    }
    html.push_str("</div></nav>\n<main>\n");
    for (id, title, body) in &sections {
        let _ = write!(
            html,
            "<section id=\"{id}\"><h2>{title}</h2>\n{body}</section>\n"
        );
    }
    html.push_str(
        "</main>\n<footer>Made by roadhound-train from the files in the run's folder. \
         Point at a chart to read its values; faint lines are the values themselves, strong ones their running mean.</footer></body></html>\n",
    );
    html
}

fn head_of_run(html: &mut String, run: &RunRecord) {
    let done = pairs_done(run);
    let unit = run.unit();
    let speed = recent(&run.losses, &format!("{unit}_per_s"));
    let mut state = format!("{} {unit} seen", thousands(done));
    if let Some(all) = pairs_in_all(run) {
        let share = (done / all.max(1.0)).clamp(0.0, 1.0);
        state = format!("{} of {} {unit}", thousands(done), thousands(all));
        if done >= all {
            state += ", finished";
        } else if let Some(speed) = speed.filter(|s| *s > 0.0) {
            let _ = write!(
                state,
                ", about {} left while it runs",
                duration((all - done) / speed)
            );
        }
        let _ = writeln!(
            html,
            "<div class=\"bar\"><i style=\"width:{:.1}%\"></i></div>",
            share * 100.0
        );
    }
    let _ = writeln!(html, "<p class=\"soft\">{}</p>", escape(&state));
    let mut cards = String::new();
    let mut card = |value: String, name: String| {
        let _ = write!(
            cards,
            "<div class=\"card\"><b>{}</b><span>{}</span></div>",
            escape(&value),
            escape(&name)
        );
    };
    for (column, name) in [
        ("auc", "best AUC"),
        ("presence_auc", "best presence ROC-AUC"),
        ("identity_top1", "best identity"),
    ] {
        if let Some((value, pairs)) = best(&run.validation, column) {
            card(
                format!("{value:.3}"),
                format!("{name}, at {} {unit}", short(pairs)),
            );
        }
    }
    if let Some(error) = calibration_error(&run.calibration) {
        card(format!("{error:.3}"), "calibration error".into());
    }
    if let Some(speed) = speed {
        card(short(speed), format!("{unit}/s, lately"));
    }
    if let Some(share) = recent(&run.losses, "loader_share") {
        card(
            format!("{:.1} %", share * 100.0),
            "waiting for data, lately".into(),
        );
    }
    if !cards.is_empty() {
        let _ = writeln!(html, "<div class=\"cards\">{cards}</div>");
    }
}

fn legend(html: &mut String, runs: &[RunRecord]) {
    html.push_str("<div class=\"legend\">");
    for (k, run) in runs.iter().enumerate() {
        let _ = write!(
            html,
            "<span><i class=\"b{}\"></i>{}</span>",
            k % SERIES_COLOURS,
            escape(&run.name)
        );
    }
    html.push_str("</div>\n");
}

/// Columns of a table over all runs, in the order in which they first appear.
fn columns_of<'a>(
    runs: &'a [RunRecord],
    table: impl Fn(&'a RunRecord) -> &'a Table,
) -> Vec<&'a str> {
    let mut columns: Vec<&str> = Vec::new();
    for name in runs.iter().flat_map(|r| table(r).names()) {
        if !POSITION.contains(&name.as_str()) && !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    columns
}

/// One chart a column, one line a run.
fn charts<'a>(
    runs: &'a [RunRecord],
    table: impl Fn(&'a RunRecord) -> &'a Table + Copy,
    wanted: impl Fn(&str) -> bool,
    smooth: bool,
) -> String {
    let mut html = String::new();
    for column in columns_of(runs, table).into_iter().filter(|c| wanted(c)) {
        let measure = measure(column);
        let factor = if measure.percent { 100.0 } else { 1.0 };
        let points = |run: &'a RunRecord| -> Vec<(f64, f64)> {
            let table = table(run);
            let x = progress(table).unwrap_or_default();
            let y = table.column(column).unwrap_or_default();
            x.iter().zip(y).map(|(x, y)| (*x, y * factor)).collect()
        };
        let chart = LineChart {
            title: measure.title.to_owned(),
            x_label: runs.first().map_or("pairs", RunRecord::unit).to_owned(),
            series: runs
                .iter()
                .map(|run| Series {
                    // A chart of one run needs no name beside its values.
                    name: match runs.len() {
                        1 => measure.title.to_owned(),
                        _ => run.name.clone(),
                    },
                    points: points(run),
                })
                .collect(),
            log_where_wide: smooth && !SPEED.contains(&column) && column != "rate",
            smooth: smooth && column != "rate",
            limit: measure
                .percent
                .then(|| (LOADER_LIMIT_PERCENT, "at most 5 % is wanted".to_owned())),
        };
        let now = match runs {
            [run] => last(table(run), column)
                .map(|v| format!("last {}", figure_text(column, v)))
                .unwrap_or_default(),
            _ => String::new(),
        };
        let _ = write!(
            html,
            "<figure><figcaption><h3>{}</h3><span>{}</span></figcaption>{}",
            escape(measure.title),
            escape(&now),
            chart.svg()
        );
        match chart.non_finite() {
            0 => {}
            n => {
                let _ = write!(html, "<p class=\"note\">{n} value(s) are not numbers</p>");
            }
        }
        html.push_str("</figure>\n");
    }
    match html.is_empty() {
        true => missing(NOTHING_LOGGED),
        false => format!("<div class=\"charts\">\n{html}</div>\n"),
    }
}

fn missing(what: &str) -> String {
    format!("<p class=\"soft\">{what}</p>\n")
}

fn calibration(runs: &[RunRecord]) -> String {
    let known: Vec<&RunRecord> = runs.iter().filter(|r| !r.calibration.is_empty()).collect();
    if known.is_empty() {
        return missing("no calibration.csv yet");
    }
    let series: Vec<_> = runs
        .iter()
        .map(|run| (run.name.clone(), run.calibration.clone()))
        .collect();
    let mut html = format!(
        "<div class=\"charts\"><figure><figcaption><h3>Reliability</h3><span>dots grow with the pairs in the bin</span></figcaption>{}</figure>\n",
        reliability_diagram(&series)
    );
    html.push_str("<div><div class=\"scroll\"><table><tr><th>run</th><th>expected calibration error</th><th>pairs</th></tr>");
    for run in known {
        let pairs: f64 = run
            .calibration
            .iter()
            .map(|b| b.count)
            .filter(|c| c.is_finite())
            .sum();
        let error = calibration_error(&run.calibration)
            .map_or_else(|| "no pairs".to_owned(), |error| format!("{error:.3}"));
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{error}</td><td>{}</td></tr>",
            escape(&run.name),
            thousands(pairs)
        );
    }
    html.push_str("</table></div>\n<p><small>On the dashed line, a presence of 0.8 means that the target was there in 80 % of the cases.</small></p></div></div>\n");
    html
}

fn pictures(run: &RunRecord) -> String {
    let mut html = String::new();
    for picture in &run.pictures {
        let caption = escape(&picture.caption);
        let _ = writeln!(
            html,
            "<figure class=\"picture\"><figcaption><h3>{caption}</h3></figcaption><div><img alt=\"{caption}\" src=\"data:{};base64,{}\"></div></figure>",
            picture.media_type,
            base64(&picture.bytes)
        );
    }
    if html.is_empty() {
        return missing("no pictures yet");
    }
    html.push_str("<p><small>The search crop with the box to be learned: green where the target is there, red where it is not. The first and the latest template are in its upper corners, at half size.</small></p>\n");
    html
}

fn data(facts: Option<&Facts>) -> String {
    let Some(facts) = facts.filter(|f| !f.data.is_empty()) else {
        return missing("no facts.json yet");
    };
    let mut html = String::from(
        "<div class=\"scroll\"><table><tr><th>pack</th><th>split</th><th>share of pairs</th><th>videos and stills</th><th>images</th><th>boxes</th>\
         <th>objects</th><th title=\"objects seen on two images or more\">tracks</th><th>ignored regions</th></tr>",
    );
    for count in &facts.data {
        let share = match count.split.as_str() {
            "train" => format!("{:.1} %", count.pair_share * 100.0),
            _ => String::new(),
        };
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{share}</td>",
            escape(&count.pack),
            escape(&count.split)
        );
        for number in [
            count.sequences,
            count.images,
            count.boxes,
            count.instances,
            count.tracks,
            count.ignore_regions,
        ] {
            let _ = write!(html, "<td>{}</td>", thousands(number as f64));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>\n<details><summary>Boxes by class</summary><div class=\"scroll\"><table class=\"words\"><tr><th>pack</th><th>split</th><th>classes</th></tr>");
    for count in &facts.data {
        let mut classes: Vec<_> = count.classes.iter().collect();
        classes.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let classes: Vec<String> = classes
            .into_iter()
            .map(|(class, boxes)| format!("{} {}", escape(class), thousands(*boxes as f64)))
            .collect();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td class=\"wrap\">{}</td></tr>",
            escape(&count.pack),
            escape(&count.split),
            classes.join(" · ")
        );
    }
    html.push_str("</table></div></details>\n");
    html
}

fn configuration(run: &RunRecord) -> String {
    let Some(settings) = &run.settings else {
        return missing("no config.toml yet");
    };
    let is_set = |key: &str, value: &str| run.defaults.get(key) != Some(value);
    let rows = |only_set: bool| -> (usize, String) {
        let mut html = String::from("<div class=\"scroll\"><table class=\"words keys\">");
        let mut count = 0;
        for (key, value) in settings.entries() {
            let set = is_set(key, value);
            if only_set && !set {
                continue;
            }
            count += 1;
            let default = match (set, run.defaults.get(key)) {
                (true, Some(default)) => format!("default {default}"),
                (true, None) => "no default".to_owned(),
                (false, _) => String::new(),
            };
            let _ = write!(
                html,
                "<tr{}><td>{}</td><td>{}</td><td class=\"soft\">{}</td></tr>",
                if set && !only_set {
                    " class=\"set\""
                } else {
                    ""
                },
                escape(key),
                escape(value),
                escape(&default)
            );
        }
        html.push_str("</table></div>\n");
        (count, html)
    };
    let (set, set_rows) = rows(true);
    let (all, all_rows) = rows(false);
    let mut html = match set {
        0 => missing("every key has its default"),
        _ => format!("<p>Keys that differ from the defaults:</p>\n{set_rows}"),
    };
    let _ = writeln!(
        html,
        "<details><summary>All {all} keys, those that differ marked</summary>{all_rows}</details>"
    );
    html
}

fn names_row(html: &mut String, first: &str, runs: &[RunRecord]) {
    let _ = write!(html, "<tr><th>{first}</th>");
    for run in runs {
        let _ = write!(html, "<th>{}</th>", escape(&run.name));
    }
    html.push_str("</tr>");
}

fn configuration_diff(runs: &[RunRecord]) -> String {
    let nothing = Settings::default();
    let settings: Vec<&Settings> = runs
        .iter()
        .map(|r| r.settings.as_ref().unwrap_or(&nothing))
        .collect();
    let differences = differences(&settings);
    if differences.is_empty() {
        return missing("the configurations are the same");
    }
    let mut html = String::from("<div class=\"scroll\"><table class=\"words keys\">");
    names_row(&mut html, "key", runs);
    for (key, values) in differences {
        let _ = write!(html, "<tr><td>{}</td>", escape(key));
        for value in values {
            match value {
                Some(value) => {
                    let _ = write!(html, "<td>{}</td>", escape(value));
                }
                None => html.push_str("<td class=\"soft\">not there</td>"),
            }
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>\n");
    html
}

/// Of fewer there is nothing in the middle.
const LEAST_FOR_A_MEDIAN: usize = 3;

/// The table of figures: best and last of every validated one, means of the last tenth of the others.
fn comparison(runs: &[RunRecord]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table>");
    names_row(&mut html, "figure", runs);
    // Runs of several seeds are told by the one in the middle.
    let has_median = runs.len() >= LEAST_FOR_A_MEDIAN;
    if has_median {
        let end = html.len() - "</tr>".len();
        html.insert_str(end, "<th>median</th>");
    }
    let mut row = |name: String, column: Option<&str>, values: Vec<Option<f64>>| {
        let better = column.and_then(|column| measure(column).better);
        let finite = || values.iter().flatten().copied().filter(|v| v.is_finite());
        let winner = better.and_then(|better| finite().max_by(|a, b| better.of(a, b)));
        let decided = finite().count() > 1 && finite().any(|v| Some(v) != winner);
        let _ = write!(html, "<tr><td>{}</td>", escape(&name));
        for value in &values {
            let text = match (value, column) {
                (None, _) => "–".to_owned(),
                (Some(value), Some(column)) => figure_text(column, *value),
                (Some(value), None) => thousands(*value),
            };
            let _ = match decided && value.is_some() && *value == winner {
                true => write!(html, "<td><b>{text}</b></td>"),
                false => write!(html, "<td>{text}</td>"),
            };
        }
        if has_median {
            let median = median(&finite().collect::<Vec<_>>());
            let text = match column {
                _ if median.is_nan() => "–".to_owned(),
                Some(column) => figure_text(column, median),
                None => thousands(median),
            };
            let _ = write!(html, "<td>{text}</td>");
        }
        html.push_str("</tr>");
    };
    row(
        format!("{} seen", runs.first().map_or("pairs", RunRecord::unit)),
        None,
        runs.iter().map(|r| Some(pairs_done(r))).collect(),
    );
    for column in columns_of(runs, |r| &r.validation) {
        let Measure { title, better, .. } = measure(column);
        if better.is_some() {
            row(
                format!("{title}: best"),
                Some(column),
                runs.iter()
                    .map(|r| best(&r.validation, column).map(|(v, _)| v))
                    .collect(),
            );
        }
        row(
            format!("{title}: last"),
            Some(column),
            runs.iter().map(|r| last(&r.validation, column)).collect(),
        );
    }
    if runs.iter().any(|r| !r.calibration.is_empty()) {
        row(
            "presence: expected calibration error".into(),
            Some("calibration_error"),
            runs.iter()
                .map(|r| calibration_error(&r.calibration))
                .collect(),
        );
    }
    for column in columns_of(runs, |r| &r.losses) {
        if OPTIMISER.contains(&column) {
            continue;
        }
        row(
            format!("{}: last tenth of training", measure(column).title),
            Some(column),
            runs.iter().map(|r| recent(&r.losses, column)).collect(),
        );
    }
    html.push_str("</table></div>\n<p><small>The best figure is bold, where one side is better.</small></p>\n");
    html
}

fn program(runs: &[RunRecord]) -> String {
    if runs.iter().all(|r| r.facts.is_none()) {
        return missing("no facts.json yet");
    }
    let unknown = || "unknown".to_owned();
    type Fact = fn(&Facts) -> Option<String>;
    let facts: [(&str, Fact); 9] = [
        ("system", |f| Some(f.system.title().to_owned())),
        ("version", |f| Some(f.version.clone())),
        ("commit", |f| f.commit.clone()),
        ("device", |f| Some(f.device.clone())),
        ("seed", |f| Some(f.seed.to_string())),
        ("configuration, SHA-256", |f| Some(f.config_sha256.clone())),
        ("started from", |f| {
            Some(
                f.started_from
                    .clone()
                    .unwrap_or_else(|| "the seed".to_owned()),
            )
        }),
        ("parameters", |f| Some(thousands(f.parameters as f64))),
        ("MMAC a followed frame", |f| {
            let known = f.system == System::Tracker;
            known.then(|| thousands(f.macs_per_frame as f64 / 1e6))
        }),
    ];
    let mut html = String::from("<div class=\"scroll\"><table class=\"words keys\">");
    if runs.len() > 1 {
        names_row(&mut html, "", runs);
    }
    let follows = runs.iter().any(|r| r.system() == System::Tracker);
    for (name, value) in facts {
        if name.starts_with("MMAC") && !follows {
            continue;
        }
        let _ = write!(html, "<tr><td>{name}</td>");
        for run in runs {
            let value = run.facts.as_ref().and_then(value);
            let value = value.filter(|v| !v.is_empty()).unwrap_or_else(unknown);
            let _ = write!(html, "<td>{}</td>", escape(&value));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_the_vectors_of_rfc_4648() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn thousands_are_set_apart() {
        for (value, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (130_008.0, "130,008"),
            (-1e6, "-1,000,000"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }
}
