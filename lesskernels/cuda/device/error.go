package device

import (
	"errors"
	"fmt"
)

// What an error of a device amounts to; asked with errors.Is.
var (
	ErrUnavailable = errors.New("no CUDA device") // nothing to decode on: the CPU is
	ErrMemory      = errors.New("the device is out of memory")
	ErrLost        = errors.New("the device is lost") // nothing on it can be used again: see Device.Reopen
)

// Error is a call of the driver that failed.
type Error struct {
	Call string // with what it was about
	Code int
	Name string // of the code
	Log  string // what the driver's compiler said, if it did
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s (%d)", e.Call, e.Name, e.Code)
	if e.Log != "" {
		text += ": " + e.Log
	}
	return text
}

// Is tells the kind of a failure by its code.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case codeOutOfMemory:
		return target == ErrMemory
	case codeNoDevice, codeInsufficientDriver:
		return target == ErrUnavailable
	}
	return lost[e.Code] && target == ErrLost
}

// Codes of CUresult (cuda.h).
const (
	codeOutOfMemory        = 2
	codeInsufficientDriver = 35
	codeNoDevice           = 100
)

// lost are the codes after which the context of this process cannot be used any more.
var lost = map[int]bool{
	46:  true, // DEVICE_UNAVAILABLE
	214: true, // ECC_UNCORRECTABLE
	700: true, // ILLEGAL_ADDRESS
	702: true, // LAUNCH_TIMEOUT
	709: true, // CONTEXT_IS_DESTROYED
	710: true, // ASSERT
	714: true, // HARDWARE_STACK_ERROR
	715: true, // ILLEGAL_INSTRUCTION
	716: true, // MISALIGNED_ADDRESS
	717: true, // INVALID_ADDRESS_SPACE
	718: true, // INVALID_PC
	719: true, // LAUNCH_FAILED
	999: true, // UNKNOWN
}
