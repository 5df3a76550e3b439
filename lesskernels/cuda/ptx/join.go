package ptx

// joins finds for every instruction where the ways that lead from it meet again: its
// immediate post-dominator (Cooper, Harvey, Kennedy, "A simple, fast dominance
// algorithm", on the reversed graph). len(code) is the exit.
func joins(code []instruction) {
	exit := len(code)
	after := make([][]int, exit)
	before := make([][]int, exit+1)
	for i := range code {
		after[i] = follow(code, i)
		for _, next := range after[i] {
			before[next] = append(before[next], i)
		}
	}
	order := postorder(before, exit)
	number := make([]int, exit+1)
	join := make([]int, exit+1)
	for i, v := range order {
		number[v] = i
	}
	for i := range join {
		join[i] = -1
	}
	join[exit] = exit
	meet := func(a, b int) int {
		for a != b {
			if number[a] < number[b] {
				a = join[a]
			} else {
				b = join[b]
			}
		}
		return a
	}
	for changed := true; changed; {
		changed = false
		for i := len(order) - 2; i >= 0; i-- { // from the exit backwards, without it
			v, found := order[i], -1
			for _, next := range after[v] {
				switch {
				case join[next] < 0:
				case found < 0:
					found = next
				default:
					found = meet(found, next)
				}
			}
			if join[v] != found {
				join[v], changed = found, true
			}
		}
	}
	for i := range code {
		code[i].join = join[i]
	}
}

// follow is what may run after an instruction.
func follow(code []instruction, i int) []int {
	in := &code[i]
	switch {
	case in.kind == leave && in.guard < 0:
		return []int{len(code)}
	case in.kind == leave:
		return []int{i + 1, len(code)}
	case in.kind == branch && in.guard < 0:
		return []int{in.target}
	case in.kind == branch:
		return []int{i + 1, in.target}
	}
	return []int{i + 1}
}

// postorder lists what can be reached from a node, itself last.
func postorder(next [][]int, from int) []int {
	var order []int
	seen := make([]bool, len(next))
	var visit func(int)
	visit = func(v int) {
		seen[v] = true
		for _, u := range next[v] {
			if !seen[u] {
				visit(u)
			}
		}
		order = append(order, v)
	}
	visit(from)
	return order
}
