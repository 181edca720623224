//! Lines of bytes, none of them too long.

use std::io::{self, BufRead, Read};

use super::request::LONGEST_LINE;

/// The next line without its end, or `None` at the end of the input.
pub fn next(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let most = LONGEST_LINE as u64 + 1;
    input.take(most).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > LONGEST_LINE {
        let text = format!("a line is longer than {LONGEST_LINE} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_or_an_error() {
        let mut input: &[u8] = b"a\n\nb";
        let mut read = || next(&mut input).expect("short lines");
        assert_eq!(read(), Some(b"a".to_vec()));
        assert_eq!(read(), Some(Vec::new()));
        assert_eq!(read(), Some(b"b".to_vec()));
        assert_eq!(read(), None);
        let long = vec![b'x'; LONGEST_LINE + 1];
        assert!(next(&mut long.as_slice()).is_err());
    }
}
