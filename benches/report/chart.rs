//! A chart of a group: a bar per row, as long as its ratio to the floor.

use super::row::{Figure, Row};
use std::fmt::Write as _;

const WIDTH: f64 = 1_000.0;
/// Where bars begin: names are left of it.
const LEFT: f64 = 430.0;
/// Room for figures right of the longest bar.
const RIGHT: f64 = 210.0;
const LINE: f64 = 22.0;
const TOP: f64 = 58.0;
/// Where ratios differ by more, bars of a linear scale would be dots; then it is logarithmic.
const LINEAR: f64 = 20.0;

/// `None` where no row has a ratio.
pub(super) fn svg(group: &str, rows: &[Row]) -> Option<String> {
    let bars: Vec<(&Figure, f64)> = rows
        .iter()
        .filter_map(Row::figure)
        .filter_map(|figure| Some((figure, figure.ratio().filter(|ratio| ratio.is_finite() && *ratio > 0.0)?)))
        .collect();
    let scale = Scale::of(bars.iter().map(|(_, ratio)| *ratio))?;
    #[expect(clippy::cast_precision_loss, reason = "rows of a chart")]
    let height = TOP + LINE * bars.len() as f64 + 16.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\">{}: times the floor ({})</text>\n\
         <text x=\"16\" y=\"42\" fill=\"#666\">blue: less is better; green: more is better; the line is the floor</text>\n",
        escaped(group),
        scale.word(),
    );
    for (n, (figure, ratio)) in bars.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "rows of a chart")]
        let y = TOP + LINE * n as f64;
        bar(&mut text, figure, *ratio, scale.width(*ratio), y);
    }
    let one = LEFT + scale.width(1.0);
    let bottom = height - 12.0;
    let _ =
        write!(text, "<line x1=\"{one:.1}\" y1=\"{TOP}\" x2=\"{one:.1}\" y2=\"{bottom}\" stroke=\"#c00\"/>\n</svg>\n");
    Some(text)
}

fn bar(text: &mut String, figure: &Figure, ratio: f64, width: f64, y: f64) {
    let color = if figure.unit.more_is_better() { "#3a9a5b" } else { "#3b6fb5" };
    let (middle, name) = (y + LINE * 0.65, escaped(&figure.name));
    let floor = figure.floor.as_ref().map(|(floor, _)| escaped(floor)).unwrap_or_default();
    let _ = write!(
        text,
        "<g><title>{name}; floor: {floor}</title>\n\
         <text x=\"{:.0}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}</text>\n\
         <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\n\
         <text x=\"{:.1}\" y=\"{middle:.1}\">{ratio:.2}x, {}</text></g>\n",
        LEFT - 8.0,
        y + 3.0,
        LINE - 6.0,
        LEFT + width + 6.0,
        figure.unit.show(figure.median()),
    );
}

/// From ratios to lengths. The floor, 1.0, is always on it.
struct Scale {
    least: f64,
    most: f64,
    linear: bool,
}

impl Scale {
    fn of(ratios: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        ratios.clone().next()?;
        let most = ratios.clone().fold(1.0, f64::max);
        let least = ratios.fold(1.0, f64::min);
        Some(Self { least: least / 2.0, most, linear: most / least <= LINEAR })
    }

    fn width(&self, ratio: f64) -> f64 {
        let part = match self.linear {
            true => ratio / self.most,
            false => (ratio / self.least).ln() / (self.most / self.least).ln(),
        };
        (WIDTH - LEFT - RIGHT) * part
    }

    fn word(&self) -> &'static str {
        if self.linear { "linear scale" } else { "logarithmic scale" }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
