//! A chart of a group: a bar per row, as long as its ratio to the floor.

use super::row::{Figure, Row, Unit};
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

/// `None` where there is nothing to draw. Groups that only weigh get a bar per figure, as long as the memory.
pub(super) fn svg(group: &str, rows: &[Row]) -> Option<String> {
    let figures = || rows.iter().filter_map(Row::figure);
    let ratios: Vec<Bar<'_>> = figures()
        .filter_map(|figure| Bar::new(figure, figure.ratio()?, &format!("{:.2}x, ", figure.ratio()?)))
        .collect();
    if ratios.is_empty() {
        let weighed = figures().filter(|figure| figure.unit == Unit::Memory);
        let bars: Vec<Bar<'_>> = weighed.filter_map(|figure| Bar::new(figure, figure.median(), "")).collect();
        return drawn(&format!("{group}: memory"), "", None, &bars);
    }
    let legend = "blue: less is better; green: more is better; the line is the floor";
    drawn(&format!("{group}: times the floor"), legend, Some(1.0), &ratios)
}

/// What is drawn of a figure.
struct Bar<'a> {
    figure: &'a Figure,
    length: f64,
    /// Before the figure itself.
    label: String,
}

impl<'a> Bar<'a> {
    /// `None` where no scale could show it.
    fn new(figure: &'a Figure, length: f64, label: &str) -> Option<Self> {
        (length.is_finite() && length > 0.0).then(|| Self { figure, length, label: label.to_owned() })
    }
}

/// * `line`: a length that is marked.
fn drawn(title: &str, legend: &str, line: Option<f64>, bars: &[Bar<'_>]) -> Option<String> {
    let scale = Scale::of(bars.iter().map(|bar| bar.length).chain(line))?;
    #[expect(clippy::cast_precision_loss, reason = "rows of a chart")]
    let height = TOP + LINE * bars.len() as f64 + 16.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\">{} ({})</text>\n\
         <text x=\"16\" y=\"42\" fill=\"#666\">{legend}</text>\n",
        escaped(title),
        scale.word(),
    );
    for (n, bar) in bars.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "rows of a chart")]
        let y = TOP + LINE * n as f64;
        draw(&mut text, bar, scale.width(bar.length), y);
    }
    if let Some(line) = line.map(|at| LEFT + scale.width(at)) {
        let bottom = height - 12.0;
        let _ =
            writeln!(text, "<line x1=\"{line:.1}\" y1=\"{TOP}\" x2=\"{line:.1}\" y2=\"{bottom}\" stroke=\"#c00\"/>");
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn draw(text: &mut String, bar: &Bar<'_>, width: f64, y: f64) {
    let figure = bar.figure;
    let color = if figure.unit.more_is_better() { "#3a9a5b" } else { "#3b6fb5" };
    let (middle, name) = (y + LINE * 0.65, escaped(&figure.name));
    let floor = figure.floor.as_ref().map(|(floor, _)| format!("; floor: {}", escaped(floor)));
    let floor = floor.unwrap_or_default();
    let _ = write!(
        text,
        "<g><title>{name}{floor}</title>\n\
         <text x=\"{:.0}\" y=\"{middle:.1}\" text-anchor=\"end\">{name}</text>\n\
         <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{color}\"/>\n\
         <text x=\"{:.1}\" y=\"{middle:.1}\">{}{}</text></g>\n",
        LEFT - 8.0,
        y + 3.0,
        LINE - 6.0,
        LEFT + width + 6.0,
        bar.label,
        figure.unit.show(figure.median()),
    );
}

/// From values to lengths.
struct Scale {
    least: f64,
    most: f64,
    linear: bool,
}

impl Scale {
    fn of(lengths: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let most = lengths.clone().reduce(f64::max)?;
        let least = lengths.reduce(f64::min)?;
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
