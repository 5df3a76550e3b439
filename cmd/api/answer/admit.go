package answer

import (
	"context"
	"time"
)

// admit counts a new run in, or refuses it when the engine has no room for
// it and for those that are on their way there.
func (s *Service) admit(bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.Engine.Room(s.asking+1, bytes); err != nil {
		return err
	}
	s.active++
	s.asking++
	return nil
}

// reached counts a run out that is in the engine now, or never will be.
func (s *Service) reached() {
	s.mu.Lock()
	s.asking--
	s.mu.Unlock()
}

func (s *Service) left() {
	s.mu.Lock()
	s.active--
	s.mu.Unlock()
}

// Active is the number of runs that have not ended.
func (s *Service) Active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// Run returns a run that is under way or ended not long ago.
func (s *Service) Run(id string) (*Run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runs[id]
	return r, ok
}

// CancelAll stops every run.
func (s *Service) CancelAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		r.Cancel()
	}
}

func (s *Service) keep(r *Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs == nil {
		s.runs = make(map[string]*Run)
	}
	s.runs[r.ID] = r
}

// forget moves a run to those that have ended and drops the oldest of them.
func (s *Service) forget(r *Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.old = append(s.old, r.ID)
	if len(s.old) > keptRuns {
		delete(s.runs, s.old[0])
		s.old = s.old[1:]
	}
}

// Wait returns when no run is under way, or ctx's error when that comes first.
func (s *Service) Wait(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.Active() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Forget drops the ended runs that are kept for readers that come back; their
// records stay in the database.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.old {
		delete(s.runs, id)
	}
	s.old = nil
}
