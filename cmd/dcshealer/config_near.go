package main

import "strings"

// usualMistakes are words that people write for a key or a word of the config file.
var usualMistakes = map[string]string{
	"password": "password_file", "passwd": "password_file", "user": "username", "host": "address", "addr": "address", "slave": "replica",
	"primary": "master", "secondary": "replica", "timezone": "time_zone", "zone": "time_zone", "tz": "time_zone", "schedule": "cron",
	"memory": "used_memory", "clients": "connected_clients", "ca": "ca_file", "cert": "cert_file", "key": "key_file",
}

// nearestWord is the word that was probably meant, or "".
func nearestWord(got string, words []string) string {
	got = strings.ReplaceAll(strings.ToLower(got), " ", "_")
	best, bound := "", min(3, len(got)/2+1)
	for _, w := range words {
		if usualMistakes[got] == w {
			return w
		}
		if len(got) > 64 {
			continue
		}
		if d := editDistance(got, w); d < bound {
			best, bound = w, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or replace to get from a to b (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
