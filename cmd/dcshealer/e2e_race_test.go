//go:build race

package main

// raceDetector: the program under test is built as its tests are.
const raceDetector = true
