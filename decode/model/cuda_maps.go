package model

import (
	"fmt"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaMaps are the feature maps of LESS on a device.
type cudaMaps struct {
	layers []cuda.Maps
	turns  device.Pointer // [context, headDim] f32: cos and sin of what every position turns a key by
	phi    device.Pointer // [tokens, heads, rank] f32, of the batch
	taken  []device.Pointer
}

// UseMaps loads the feature maps of LESS: see CPU.UseMaps.
func (c *CUDA) UseMaps(maps *lesskernels.Maps) error {
	if err := checkMaps(maps, c.config); err != nil {
		return err
	}
	if rank := maps.Header.Shape.Rank; rank > cuda.MostRank {
		return fmt.Errorf("model: feature maps of rank %d: a card takes %d at most", rank, cuda.MostRank)
	}
	if c.source != nil {
		panic("model: feature maps are loaded twice")
	}
	c.source = maps
	if err := c.takeMaps(); err != nil {
		c.source = nil
		c.maps.free(c.device)
		return fmt.Errorf("model: feature maps: %w", err)
	}
	return nil
}

// takeMaps puts the feature maps on the device.
func (c *CUDA) takeMaps() error {
	maps, m, tokens, context, dim := c.source, &c.maps, int64(c.limits.Tokens), c.config.Context, c.heads.Dim
	each := cuda.MapsBytes(maps.Header.Shape)
	sizes := []int64{each * int64(len(maps.Layers)), 4 * int64(context*dim), 4 * tokens * int64(c.heads.Heads*maps.Header.Shape.Rank)}
	info, err := c.device.Info()
	if err != nil {
		return err
	}
	beside, err := c.beside()
	if err != nil {
		return err
	}
	own := sizes[0] + sizes[1] + sizes[2]
	if need := own + beside.bytes(); need > info.Free {
		return fmt.Errorf("%d bytes are free on %s beside weights, and %d are needed: %d for feature maps, %s", info.Free, info.Label(), need, own, beside)
	}
	for _, n := range sizes {
		p, err := c.device.Alloc(n)
		if err != nil {
			return err
		}
		m.taken = append(m.taken, p)
	}
	for i, f := range maps.Layers {
		layer, err := cuda.PutMaps(c.stream, f, m.taken[0]+device.Pointer(int64(i)*each))
		if err != nil {
			return err
		}
		m.layers = append(m.layers, layer)
	}
	m.turns, m.phi = m.taken[1], m.taken[2]
	turns := make([]float32, context*dim)
	for position := range context {
		row := rowOf(turns, position, dim)
		rotation(row[:dim/2], row[dim/2:], c.frequencies, position)
	}
	c.scratch += sizes[1] + sizes[2]
	return c.stream.Upload(m.turns, cuda.Bytes(turns))
}

func (m *cudaMaps) free(d device.Device) {
	for _, p := range m.taken {
		d.Free(p)
	}
	*m = cudaMaps{}
}

// turned tells whether the maps take queries and keys as attention does, after positions have turned them.
func (c *CUDA) turned() bool { return c.source.Header.Inputs == lesskernels.PostRoPE }

// phi computes φ of the queries of rows that ask states.
func (c *CUDA) phi(b *cudaBatch, layer int) {
	switch {
	case !b.asks:
	case c.turned():
		c.check(c.kernels.PhiTurned(c.stream, c.heads, &c.maps.layers[layer], c.q, c.states(b, layer), b.rows))
	default:
		c.check(c.kernels.Phi(c.stream, c.heads, &c.maps.layers[layer], c.qkvOut, c.states(b, layer), b.rows))
	}
}

// states are what a batch asks in a layer; nil: nothing.
func (c *CUDA) states(b *cudaBatch, layer int) *cuda.States {
	if !b.asks {
		return nil
	}
	return &cuda.States{Rank: c.source.Header.Shape.Rank, Phi: c.maps.phi, Asked: b.asked.at, At: b.at.at, Rates: c.maps.layers[layer].Rates}
}
