//! The encoding of protobuf: numbered fields, one after another.

/// Bytes that are no protobuf message. The text says why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Malformed(pub(super) String);

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A number of fixed length. No field of the tables has this form.
    Fixed,
}

/// The fields of a message, in the order of its bytes.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), Malformed> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Wire::Number(self.number()?),
            1 => self.bytes(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = self.number()?;
                Wire::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Wire::Fixed)?,
            other => return Err(Malformed(format!("proto: illegal wireType {other}"))),
        };
        Ok((tag >> 3, value))
    }

    /// Reads a number. It is written in groups of seven bits, the lowest first.
    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or_else(too_short)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("proto: integer overflow".to_owned()))
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let (bytes, rest) = split.ok_or_else(too_short)?;
        self.0 = rest;
        Ok(bytes)
    }
}

fn too_short() -> Malformed {
    Malformed("unexpected EOF".to_owned())
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, Malformed> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn fields_are_read_one_after_another() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'a', b'b', 0x1d, 1, 2, 3, 4, 0x82, 0x01, 0x00];
        let fields =
            [(1, Wire::Number(150)), (2, Wire::Bytes(b"ab")), (3, Wire::Fixed), (16, Wire::Bytes(b""))];
        assert_eq!(read(&bytes), Ok(fields.to_vec()));
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x12, 0x05, b'a'],
            &[0x0b],
            &[0x09, 1, 2],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
