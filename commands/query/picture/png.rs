//! A drawing as PNG: lines by distance to their segments, texts in DejaVu Sans, which is part of the program.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

use super::{Anchor, Drawing, Shape};

/// Pixels of the file per pixel of the drawing.
const SCALE: f32 = 2.0;

/// An RGB image.
struct Image {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Image {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![255; width * height * 3] }
    }

    /// Lays a colour over a pixel; `cover` is 0 for not at all, 1 for wholly.
    fn blend(&mut self, x: i64, y: i64, colour: [u8; 3], cover: f32) {
        if x < 0 || y < 0 || x >= self.width as i64 || y >= self.height as i64 {
            return;
        }
        let at = (y as usize * self.width + x as usize) * 3;
        for (pixel, ink) in self.pixels[at..at + 3].iter_mut().zip(colour) {
            *pixel = (f32::from(*pixel) + (f32::from(ink) - f32::from(*pixel)) * cover.clamp(0.0, 1.0))
                .round() as u8;
        }
    }

    /// A line through points. Where segments meet they are not laid over each other twice.
    fn path(&mut self, points: &[(f32, f32)], width: f32, colour: [u8; 3]) {
        let reach = width / 2.0 + 0.5;
        let mut covers = std::collections::BTreeMap::<(i64, i64), f32>::new();
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let (dx, dy) = (x1 - x0, y1 - y0);
            let length2 = dx * dx + dy * dy;
            for y in (y0.min(y1) - reach).floor() as i64..=(y0.max(y1) + reach).ceil() as i64 {
                for x in (x0.min(x1) - reach).floor() as i64..=(x0.max(x1) + reach).ceil() as i64 {
                    let (px, py) = (x as f32 + 0.5 - x0, y as f32 + 0.5 - y0);
                    let along =
                        if length2 > 0.0 { ((px * dx + py * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
                    let cover = reach - (px - along * dx).hypot(py - along * dy);
                    if cover > 0.0 {
                        let have = covers.entry((x, y)).or_default();
                        *have = have.max(cover.min(1.0));
                    }
                }
            }
        }
        for ((x, y), cover) in covers {
            self.blend(x, y, colour, cover);
        }
    }

    fn text(&mut self, font: &FontRef<'_>, shape: &TextShape<'_>) {
        let scale = PxScale::from(shape.size);
        let scaled = font.as_scaled(scale);
        let mut glyphs = Vec::new();
        let mut x = 0.0;
        let mut last = None;
        for c in shape.text.chars() {
            let id = scaled.glyph_id(c);
            if let Some(last) = last {
                x += scaled.kern(last, id);
            }
            glyphs.push((id, x));
            x += scaled.h_advance(id);
            last = Some(id);
        }
        let left = shape.at.0
            - match shape.anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => x / 2.0,
                Anchor::End => x,
            };
        for (id, x) in glyphs {
            let glyph = id.with_scale_and_position(scale, point(left + x, shape.at.1));
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            outline.draw(|gx, gy, cover| {
                let (px, py) = (bounds.min.x as i64 + i64::from(gx), bounds.min.y as i64 + i64::from(gy));
                self.blend(px, py, shape.colour, cover);
            });
        }
    }
}

/// A text in pixels of the file.
struct TextShape<'a> {
    at: (f32, f32),
    anchor: Anchor,
    size: f32,
    colour: [u8; 3],
    text: &'a str,
}

/// `#rrggbb`.
fn rgb(text: &str) -> [u8; 3] {
    let part =
        |from: usize| text.get(from..from + 2).and_then(|t| u8::from_str_radix(t, 16).ok()).unwrap_or(0);
    [part(1), part(3), part(5)]
}

/// The whole file.
///
/// # Errors
/// If the font or the encoder fails.
pub fn render(drawing: &Drawing) -> anyhow::Result<Vec<u8>> {
    let font = FontRef::try_from_slice(dejavu::sans::regular())?;
    let pixels = |v: f64| v as f32 * SCALE;
    let mut image = Image::new(pixels(drawing.width).ceil() as usize, pixels(drawing.height).ceil() as usize);
    for shape in &drawing.shapes {
        match shape {
            Shape::Path { points, colour, width } => {
                let points: Vec<(f32, f32)> = points.iter().map(|(x, y)| (pixels(*x), pixels(*y))).collect();
                image.path(&points, pixels(*width), rgb(colour));
            }
            Shape::Text { at, anchor, size, colour, text } => image.text(
                &font,
                &TextShape {
                    at: (pixels(at.0), pixels(at.1)),
                    anchor: *anchor,
                    size: pixels(*size),
                    colour: rgb(colour),
                    text,
                },
            ),
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.pixels)?;
    writer.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_texts_leave_ink() {
        let shapes = vec![
            Shape::Path { points: vec![(0.0, 10.0), (20.0, 10.0)], colour: "#ff0000", width: 2.0 },
            Shape::Text {
                at: (30.0, 15.0),
                anchor: Anchor::Middle,
                size: 13.0,
                colour: "#000000",
                text: "é1".to_string(),
            },
        ];
        let bytes = render(&Drawing { width: 40.0, height: 20.0, shapes }).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (80, 40));
        let at = |x: usize, y: usize| &pixels[(y * 80 + x) * 3..][..3];
        assert_eq!(at(10, 20), [255, 0, 0]);
        assert_eq!(at(10, 5), [255, 255, 255]);
        let dark = pixels.chunks(3).filter(|p| p[0] < 100 && p[1] < 100).count();
        assert!(dark > 20, "{dark}");
    }
}
