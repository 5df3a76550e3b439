package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"lessrag/lesskernels/cuda/device"
)

// deviceFlag is where to decode: auto or cpu, which is the CPU, cuda, or cuda: and the numbers of cards. No card has run
// the decoder yet, so auto does not ask for one.
type deviceFlag struct {
	cuda  bool
	cards []int // nil: all that the driver sees
}

// UnmarshalText reads the flag.
func (d *deviceFlag) UnmarshalText(text []byte) error {
	kind, list, some := strings.Cut(string(text), ":")
	*d = deviceFlag{cuda: kind == "cuda"}
	if !d.cuda && (kind != "auto" && kind != "cpu" || some) {
		return fmt.Errorf("%q is none of auto, cpu, cuda, and cuda:0,2 for some of the cards", text)
	}
	if !some {
		return nil
	}
	seen := map[int]bool{}
	for _, number := range strings.Split(list, ",") {
		card, err := strconv.Atoi(number)
		if err != nil || card < 0 || seen[card] {
			return fmt.Errorf("%q: give each card's number once, from 0, as in cuda:0,2", text)
		}
		seen[card] = true
		d.cards = append(d.cards, card)
	}
	return nil
}

// open takes cards into use, at most so many; none for the CPU. Where all are asked for, those that
// cannot be used are left out.
func (d deviceFlag) open(most int) ([]device.Device, error) {
	if !d.cuda {
		return nil, nil
	}
	cards := d.cards
	if cards == nil {
		n, err := device.Count()
		if err != nil {
			return nil, noCard(err)
		}
		for i := range n {
			cards = append(cards, i)
		}
	}
	var opened []device.Device
	var refused []error
	for _, card := range cards {
		if len(opened) == most {
			break
		}
		c, err := device.Open(card)
		if err != nil {
			refused = append(refused, fmt.Errorf("card %d: %w", card, err))
			continue
		}
		opened = append(opened, c)
	}
	if len(refused) > 0 && (d.cards != nil || len(opened) == 0) {
		for _, c := range opened {
			c.Close()
		}
		return nil, noCard(errors.Join(refused...))
	}
	for _, err := range refused {
		slog.Warn("a card is left out", "error", err)
	}
	return opened, nil
}

func noCard(err error) error {
	return usageError{fmt.Errorf("--device cuda: %w; --device cpu needs no card", err)}
}
