//! A picture of the ratios: a bar for each figure, from the peer's to ours, with the rounds' spread.
//!
//! The scale is logarithmic, so that twice and half are equally far from one.

use std::fmt::Write;

use super::figures::Table;

const WIDTH: f64 = 760.0;
/// Where the bars begin and end.
const LEFT: f64 = 210.0;
const RIGHT: f64 = 700.0;
const ROW: f64 = 22.0;
const TOP: f64 = 64.0;
/// The least and the most ratio that is shown.
const LEAST: f64 = 0.05;
const MOST: f64 = 4.0;

pub(super) fn svg(tables: &[Table]) -> String {
    let rows: Vec<_> = tables
        .iter()
        .flat_map(|table| table.ratios().map(move |ratio| (table.test(), ratio)))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let bottom = TOP + ROW * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\">agent-l7 as a multiple of the better of HAProxy and \
         nginx</text>\n\
         <text x=\"16\" y=\"42\" fill=\"#555\">green: better than both; line: the single rounds</text>\n",
        height = bottom + 30.0,
    );
    for ratio in [0.1, 0.25, 0.5, 1.0, 2.0, 4.0] {
        let at = place(ratio);
        let color = if (ratio - 1.0_f64).abs() < f64::EPSILON { "#333" } else { "#ddd" };
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"{color}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{ratio}</text>",
            bottom + 16.0
        );
    }
    let mut middle = TOP + ROW / 2.0;
    for (test, (name, more_is_better, [median, least, most])) in rows {
        let is_good = (median > 1.0) == more_is_better;
        let color = if is_good { "#2e7d32" } else { "#b26a00" };
        let (from, to) = (place(median.min(1.0)), place(median.max(1.0)));
        // To write to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"16\" y=\"{text:.1}\">{test}, {name}</text>\
             <rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"12\" \
             fill=\"{color}\"/><path d=\"M{low:.1} {middle}H{high:.1}\" stroke=\"#000\" \
             stroke-width=\"1.5\"/><text x=\"{RIGHT}\" y=\"{text:.1}\" dx=\"10\">{median:.2}</text>",
            text = middle + 4.0,
            top = middle - 6.0,
            width = (to - from).max(1.0),
            low = place(least),
            high = place(most),
        );
        middle += ROW;
    }
    svg + "</svg>\n"
}

fn place(ratio: f64) -> f64 {
    let share = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + share * (RIGHT - LEFT)
}
