// lnm_3_comb for place and route: inputs from a shift register, outputs to registers and one XOR.
`default_nettype none

module lnm_3_comb_harness (
    input  wire clk,
    input  wire serial_in,
    output reg  serial_out
);
    reg  [18-1:0] chain;
    wire [18:0] longer = {chain, serial_in};
    wire [17-1:0] results;
    reg  [17-1:0] kept;

    lnm_3_comb dut (.clk(clk), .rst(chain[0:0]), .ce(chain[1:1]), .x(chain[17:2]), .spike(results[0:0]), .v(results[16:1]));

    always @(posedge clk) begin
        chain      <= longer[18-1:0];
        kept       <= results;
        serial_out <= ^kept ^ longer[18];
    end
endmodule

`default_nettype wire
