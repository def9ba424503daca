// Golang's checksum database library (golang.org/x/mod/sumdb: note and tlog) as a program that the
// tests run. Nothing of this project is in it but the form of a cosignature, which that library
// does not know.
//
//	read URL VKEY CLOCK-VKEY: opens a log's checkpoint and proves every entry and every smaller
//	  tree from its tiles
//	make DIR ORIGIN SIZE...: a log of its own, with a head, a consistency proof and tiles of each size
//	feed URL WITNESS-VKEY ORIGIN SIZE...: asks a witness to cosign that log's heads, and what it
//	  must refuse; prints the status of every answer
//
// It ends with an error at the first thing that does not hold.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	arguments := os.Args[1:]
	var err error
	switch {
	case len(arguments) == 4 && arguments[0] == "read":
		err = read(arguments[1], arguments[2], arguments[3])
	case len(arguments) >= 4 && arguments[0] == "make":
		err = makeLog(arguments[1], arguments[2], numbers(arguments[3:]))
	case len(arguments) >= 5 && arguments[0] == "feed":
		err = feed(arguments[1], arguments[2], arguments[3], numbers(arguments[4:]))
	default:
		err = fmt.Errorf("read URL VKEY CLOCK, make DIR ORIGIN SIZE..., or feed URL VKEY ORIGIN SIZE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func numbers(words []string) []int64 {
	var all []int64
	for _, word := range words {
		number, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		all = append(all, number)
	}
	return all
}
