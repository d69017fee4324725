// lnm_3_core for place and route: inputs from a shift register, outputs to registers and one XOR.
`default_nettype none

module lnm_3_core_harness (
    input  wire clk,
    input  wire serial_in,
    output reg  serial_out
);
    reg  [35-1:0] chain;
    wire [35:0] longer = {chain, serial_in};
    wire [18-1:0] results;
    reg  [18-1:0] kept;

    lnm_3_core dut (.clk(clk), .rst(chain[0:0]), .ce(chain[1:1]), .in_valid(chain[2:2]), .in_v(chain[18:3]), .in_x(chain[34:19]), .out_valid(results[0:0]), .out_spike(results[1:1]), .out_v(results[17:2]));

    always @(posedge clk) begin
        chain      <= longer[35-1:0];
        kept       <= results;
        serial_out <= ^kept ^ longer[35];
    end
endmodule

`default_nettype wire
