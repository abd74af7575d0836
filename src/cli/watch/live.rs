//! A watch on a terminal: a header line and a bar per task, redrawn in place.

use std::time::Duration;

use anstream::adapter::strip_str;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use longhaul::proto::v1::Job;

use super::layout::{Layout, Row, layout};

/// How often the spinner turns: it shows that the program is alive, no more.
const TICK: Duration = Duration::from_millis(120);
// Only wide messages: they are cut to the terminal's width, and a line that breaks can not be redrawn in place.
const HEADER: &str = "{spinner} {elapsed:>4}  {wide_msg}";
const HEADER_ENDED: &str = "  {elapsed:>4}  {wide_msg}";
const ROW: &str = "{prefix}  {bar:24.cyan/dim}  {wide_msg}";
const REST: &str = "{wide_msg}";

/// The lines on the terminal, one bar each. Ends with [`Live::end`], which leaves the last picture standing.
pub struct Live {
    screen: MultiProgress,
    header: ProgressBar,
    rows: Vec<ProgressBar>,
    rest: Option<ProgressBar>,
    colours: bool,
}

impl Live {
    /// Takes the terminal's current line for the header. None if the terminal is one that nothing can be redrawn on.
    pub fn new(colours: bool) -> Option<Self> {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        if screen.is_hidden() {
            return None;
        }
        let header = screen.add(ProgressBar::new_spinner().with_style(style(HEADER)));
        header.enable_steady_tick(TICK);
        Some(Self {
            screen,
            header,
            rows: Vec::new(),
            rest: None,
            colours,
        })
    }

    /// Shows a snapshot.
    pub fn show(&mut self, job: &Job) {
        let Layout { header, rows, rest } = layout(job);
        self.header.set_message(self.dyed(header));
        for bar in self.rows.drain(rows.len().min(self.rows.len())..) {
            self.screen.remove(&bar);
        }
        for (index, row) in rows.into_iter().enumerate() {
            if index == self.rows.len() {
                let before = self.rows.last().unwrap_or(&self.header);
                let bar = ProgressBar::new(row.total).with_style(style(ROW).progress_chars("━╸─"));
                self.rows.push(self.screen.insert_after(before, bar));
            }
            self.draw(&self.rows[index], row);
        }
        match (&self.rest, rest) {
            (Some(line), Some(rest)) => line.set_message(rest),
            (None, Some(rest)) => {
                let line = ProgressBar::new_spinner().with_style(style(REST));
                let line = self.screen.add(line);
                line.set_message(rest);
                self.rest = Some(line);
            }
            (Some(line), None) => {
                self.screen.remove(line);
                self.rest = None;
            }
            (None, None) => {}
        }
    }

    fn draw(&self, bar: &ProgressBar, row: Row) {
        let Row {
            label,
            done,
            total,
            detail,
        } = row;
        bar.set_length(total);
        bar.set_position(done);
        bar.set_prefix(self.dyed(label));
        bar.set_message(detail);
    }

    /// The text, without its colours if the person does not want any.
    fn dyed(&self, text: String) -> String {
        if self.colours {
            text
        } else {
            strip_str(&text).to_string()
        }
    }

    /// Says something above the picture.
    pub fn note(&self, line: String) {
        // A terminal that can not be written to shows nothing, this line as little as the picture.
        let _unseen = self.screen.println(self.dyed(line));
    }

    /// Leaves the last picture on the terminal.
    pub fn end(self) {
        self.header.set_style(style(HEADER_ENDED));
        for bar in self.rows.iter().chain(&self.rest) {
            bar.abandon();
        }
        self.header.abandon();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this module are well-formed")
}
