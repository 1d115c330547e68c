//go:build race

package bus

// raceDetector: the program under test is built as its tests are.
const raceDetector = true
