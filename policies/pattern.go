package policies

import "strings"

// A pattern is one of KEYS and of ACL: * for any text, ? for one byte, [abc] and [a-z] and [^a] for one of a set, \ before a byte that
// means itself. It matches bytes and knows no case.

// ValidPattern reports whether a pattern is not empty and every [ in it is closed.
func ValidPattern(p string) bool {
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			if i++; i >= len(p) {
				return false
			}
		case '[':
			n := strings.IndexByte(p[i:], ']')
			if n < 2 {
				return false
			}
			i += n
		}
	}
	return p != ""
}

// MatchPattern reports whether the whole of s is of the pattern. Its time is bounded by the product of the two lengths.
func MatchPattern(p, s string) bool {
	star, from := -1, 0 // the last *, and where its text may end
	i, j := 0, 0
	for j < len(s) {
		if i < len(p) && p[i] == '*' {
			star, from = i, j
			i++
			continue
		}
		if n := matchOne(p[i:], s[j]); n > 0 {
			i, j = i+n, j+1
			continue
		}
		if star < 0 {
			return false
		}
		from++
		i, j = star+1, from
	}
	return strings.Trim(p[i:], "*") == ""
}

// matchOne is how many bytes of the pattern match the byte c; 0: they do not.
func matchOne(p string, c byte) int {
	if p == "" {
		return 0
	}
	switch p[0] {
	case '?':
		return 1
	case '\\':
		if len(p) > 1 && p[1] == c {
			return 2
		}
		return 0
	case '[':
		end := strings.IndexByte(p, ']')
		if end < 2 {
			return 0
		}
		if inSet(p[1:end], c) {
			return end + 1
		}
		return 0
	}
	if p[0] == c {
		return 1
	}
	return 0
}

func inSet(set string, c byte) bool {
	not := set[0] == '^'
	if not {
		set = set[1:]
	}
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			if lo, hi := min(set[i], set[i+2]), max(set[i], set[i+2]); lo <= c && c <= hi {
				return !not
			}
			i += 2
			continue
		}
		if set[i] == c {
			return !not
		}
	}
	return not
}
