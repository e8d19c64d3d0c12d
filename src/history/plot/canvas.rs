//! Dots in a grid of characters: eight in a Braille character, one in an ASCII one.

/// The meaning of a character, which determines its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Value,
    Threshold,
    Good,
    Bad,
    Note,
    Dim,
}

impl Ink {
    /// Returns one of the sixteen colours that every terminal's theme makes readable.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Value => "36",
            Self::Threshold => "33",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Note => "35",
            Self::Dim => "2",
        }
    }
}

/// Dots of a Braille character by column and row from the top, as numbered in Unicode.
const BRAILLE: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
const DOTS: usize = 4;

pub(super) struct Canvas {
    ascii: bool,
    rows: usize,
    /// Bits of the dots in each cell, row by row from the top.
    cells: Vec<Vec<u8>>,
}

impl Canvas {
    pub(super) fn new(columns: usize, rows: usize, ascii: bool) -> Self {
        Self { ascii, rows, cells: vec![vec![0; columns]; rows] }
    }

    /// Returns the height in dots.
    pub(super) fn height(&self) -> usize {
        if self.ascii { self.rows } else { self.rows * DOTS }
    }

    /// Sets a dot; `y` counts from the bottom, `x` in half columns.
    fn dot(&mut self, x: usize, y: usize) {
        let from_top = self.height() - 1 - y;
        let (row, bit) = if self.ascii { (from_top, 1) } else { (from_top / DOTS, BRAILLE[x % 2][from_top % DOTS]) };
        self.cells[row][x / 2] |= bit;
    }

    pub(super) fn vertical(&mut self, x: usize, low: usize, high: usize) {
        for y in low..=high {
            self.dot(x, y);
        }
    }

    /// Draws a straight line without holes, both ends included.
    pub(super) fn line(&mut self, from: (usize, usize), to: (usize, usize)) {
        let length = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let between = |a: usize, b: usize, i: usize| (a * (length - i) + b * i + length / 2) / length;
        for i in 0..=length {
            self.dot(between(from.0, to.0, i), between(from.1, to.1, i));
        }
    }

    pub(super) fn rows(&self, (glyph, ink): (char, Ink)) -> Vec<Vec<(char, Ink)>> {
        let show = |bits: &u8| match bits {
            0 => (' ', Ink::Plain),
            _ if self.ascii => (glyph, ink),
            bits => (char::from_u32(0x2800 + u32::from(*bits)).unwrap_or(glyph), ink),
        };
        self.cells.iter().map(|row| row.iter().map(show).collect()).collect()
    }
}

/// Returns a row as text, with colour codes around each run of one ink.
pub(super) fn paint(cells: &[(char, Ink)], colour: bool) -> String {
    let mut text = String::with_capacity(cells.len() * 3);
    let mut now = Ink::Plain;
    for (glyph, ink) in cells {
        // A blank has no visible colour.
        if colour && *glyph != ' ' && *ink != now {
            if now != Ink::Plain {
                text.push_str("\x1b[0m");
            }
            if *ink != Ink::Plain {
                text.push_str(&format!("\x1b[{}m", ink.code()));
            }
            now = *ink;
        }
        text.push(*glyph);
    }
    if now != Ink::Plain {
        text.push_str("\x1b[0m");
    }
    text
}
