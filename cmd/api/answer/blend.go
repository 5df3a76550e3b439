package answer

import (
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// blend is BlendOf for a question, nil where its passages are read with it: nothing is
// blended, or its cache cannot. Those of earlier turns are among them: where the turn before was blended,
// no beginning is kept from which to go on.
func (s *Service) blend(p plan, written prompt) (*decode.Blend, error) {
	if s.BlendShare == 0 || p.spec.Policy == cache.Cascade {
		return nil, nil
	}
	b, err := BlendOf(s.Engine, written.tokens, written.bodies, p.collection)
	if err != nil {
		return nil, err
	}
	b.Share = s.BlendShare
	if p.spec.Remembers() {
		b.Memory = s.BlendMemory
	}
	return b, nil
}

// BlendOf tells where passages stand in a prompt that retrieve.Prompt wrote of them, by
// retrieve.Bodies, so that the engine may take them from what it computed of them before. They belong
// to a tenant: a collection.
func BlendOf(engine *decode.Engine, prompt []int32, bodies []string, tenant string) (*decode.Blend, error) {
	piece := engine.Tokenizer().Piece
	head, err := Encode(engine, retrieve.Head())
	if err != nil {
		return nil, err
	}
	number := decode.Spans(piece, head, []string{retrieve.FirstNumber})[0]
	b := &decode.Blend{Tenant: tenant, Head: head[:number[1]]}
	for _, span := range decode.Spans(piece, prompt, bodies) {
		if span[1] > span[0] {
			b.Spans = append(b.Spans, span)
		}
	}
	return b, nil
}
